"""The `tests:` of a rules file: what they say, and whether the rules do it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.message.fields import Field, list_members
from proxy.rules.loading.diagnostics import Mistake, Path, show_text
from proxy.rules.model import Rule
from proxy.rules.tools.dry_run import RequestRefusedError, Trial, TrialRequest, TrialResponse, run_trial

if TYPE_CHECKING:
    from proxy.rules.loading.loader import RulesFile
    from proxy.rules.loading.schema import CaseModel

Lines = tuple[str, ...]
Wanted = Lines | bool | None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must come out; what is not in `asked` is not compared.

    Attributes:
        asked: the keys that the author wrote.
        fields: name -> lines with `*` for any text, whether it is there at all, or `None` for absent.
    """

    asked: frozenset[str]
    rule: str | None = None
    policy: str | None = None
    observed: str | None = None
    fields: Mapping[str, Wanted] | None = None
    vary: Lines = ()
    conditionals: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a rules file; `index` is its place in the list."""

    index: int
    name: str
    request: TrialRequest
    response: TrialResponse
    expect: Expectation


def make_cases(models: Iterable[CaseModel]) -> tuple[Case, ...]:
    """Turn the checked models of `tests` into cases."""
    return tuple(_make_case(index, model) for index, model in enumerate(models))


def run(rules_file: RulesFile) -> list[Mistake]:
    """Run every test of a rules file; return a mistake for everything that came out differently."""
    return [mistake for case in rules_file.cases for mistake in _run_case(rules_file, case)]


def _make_case(index: int, model: CaseModel) -> Case:
    request, expect = model.request, model.expect
    target = request.target if request.path is None else request.path
    assert target is not None
    return Case(
        index=index,
        name=model.name,
        request=TrialRequest(request.method, target.encode(), _fields(request.headers)),
        response=TrialResponse(model.response.status, _fields(model.response.headers)),
        expect=Expectation(
            asked=frozenset(expect.model_fields_set),
            rule=expect.rule,
            policy=expect.policy,
            observed=expect.observed,
            fields=expect.headers,
            vary=expect.vary or (),
            conditionals=expect.conditionals,
        ),
    )


def _fields(headers: Mapping[str, Lines]) -> tuple[Field, ...]:
    return tuple(
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, values in headers.items()
        for value in values
    )


def _run_case(rules_file: RulesFile, case: Case) -> Iterator[Mistake]:
    def failed(path: Path, text: str) -> Mistake:
        named = f"test {show_text(case.name)} failed: " if case.name else "test failed: "
        return rules_file.document.mistake(("tests", case.index, *path), named + text)

    try:
        trial = run_trial(rules_file.ruleset, case.request, case.response)
    except RequestRefusedError as error:
        yield failed(("request",), f"the gateway answers {error.status} itself: {error.reason}")
        return
    expect = case.expect
    for key, wanted, got in (
        ("rule", expect.rule, _name(trial.resolution.rule)),
        ("policy", expect.policy, trial.policy.name),
        ("observed", expect.observed, _name(trial.resolution.observed)),
        ("conditionals", expect.conditionals, _conditionals(trial)),
    ):
        if key in expect.asked and wanted != got:
            yield failed(("expect", key), f"expected {_show(wanted)}, got {_show(got)}")
    for name, lines in (expect.fields or {}).items():
        got_lines = _lines(trial.fields, name)
        if not _agree(lines, got_lines):
            yield failed(
                ("expect", "headers", name), f"expected {_show_lines(lines)}, got {_show_lines(got_lines)}"
            )
    if "vary" in expect.asked:
        members = [
            member.decode("latin-1")
            for line in _lines(trial.fields, "Vary")
            for member in list_members(line.encode("latin-1"))
        ]
        if sorted(map(str.lower, members)) != sorted(map(str.lower, expect.vary)):
            yield failed(("expect", "vary"), f"expected {_join(expect.vary)}, got {_join(members)}")


def _conditionals(trial: Trial) -> str:
    is_stripped = trial.verdict.strips_conditionals and trial.head.method in ("GET", "HEAD")
    return "stripped" if is_stripped else "kept"


def _name(rule: Rule | None) -> str | None:
    return None if rule is None else rule.name


def _lines(fields: Sequence[Field], name: str) -> Lines:
    lower = name.lower().encode("latin-1")
    return tuple(value.decode("latin-1") for key, value in fields if key.lower() == lower)


def _agree(wanted: Wanted, got: Lines) -> bool:
    if wanted is None or isinstance(wanted, bool):
        return bool(got) is bool(wanted)
    return len(wanted) == len(got) and all(
        _matches(pattern, line) for pattern, line in zip(wanted, got, strict=True)
    )


def _matches(pattern: str, line: str) -> bool:
    """`*` stands for any text, and a value that is `*` alone for itself too (`Vary: *`)."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), line, re.DOTALL) is not None


def _show(name: str | None) -> str:
    return "none" if name is None else name


def _show_lines(lines: Wanted) -> str:
    match lines:
        case True:
            return "the field to be there"
        case None | False | ():
            return "no such field"
        case (line,):
            return _QUOTE.format(line)
        case _:
            return f"{len(lines)} lines: " + ", ".join(map(_QUOTE.format, lines))


def _join(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


_QUOTE: Final = "'{}'"
