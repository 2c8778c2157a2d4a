"""Runs the `tests:` of a rules file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from proxy.message.errors import MessageError
from proxy.message.fields import Field, list_members, values_of
from proxy.rules.loading.cases import Case, Lines, Wanted
from proxy.rules.loading.diagnostics import Mistake, Path, show_text
from proxy.rules.loading.loader import RulesFile
from proxy.rules.model import Rule
from proxy.rules.tools.dry_run import Trial, run_trial


def run(rules_file: RulesFile) -> list[Mistake]:
    """Run the tests of a rules file; return a mistake for each result that was not expected."""
    return [mistake for case in rules_file.cases for mistake in _run_case(rules_file, case)]


def _run_case(rules_file: RulesFile, case: Case) -> Iterator[Mistake]:
    def failed(path: Path, text: str) -> Mistake:
        named = f"test {show_text(case.name)} failed: " if case.name else "test failed: "
        return rules_file.document.mistake(("tests", case.index, *path), named + text)

    try:
        trial = run_trial(rules_file.ruleset, case.request, case.response)
    except MessageError as error:
        yield failed(("request",), f"the proxy answers {error.status} itself: {error}")
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
    return "stripped" if trial.verdict.strips(trial.head.method) else "kept"


def _name(rule: Rule | None) -> str | None:
    return None if rule is None else rule.name


def _lines(fields: Sequence[Field], name: str) -> Lines:
    return tuple(value.decode("latin-1") for value in values_of(fields, name.lower().encode("latin-1")))


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
