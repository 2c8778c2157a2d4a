"""Turns the bytes of a rules file into compiled rules, or into all mistakes in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from proxy.rules.engine.matching import Ruleset
from proxy.rules.keys.fields import X_REQUESTED_WITH, FieldKey, ScriptRequest
from proxy.rules.keys.key import Conditions, Key
from proxy.rules.keys.methods import Methods
from proxy.rules.keys.paths import PathRegexes, Paths
from proxy.rules.keys.query import Parameter
from proxy.rules.keys.response import Attachment, ContentTypes, Statuses
from proxy.rules.loading import schema
from proxy.rules.loading.cases import Case, make_cases
from proxy.rules.loading.diagnostics import Mistake, RulesError
from proxy.rules.loading.document import Document
from proxy.rules.loading.references import check_references
from proxy.rules.loading.validation import validate
from proxy.rules.loading.yaml_positions import MAX_SIZE_BYTES, read
from proxy.rules.model import Policy, Rule
from proxy.rules.policies import BUILT_IN, extend

__all__ = ["MAX_SIZE_BYTES", "Mistake", "RulesError", "RulesFile", "load", "loads", "read_bytes"]

_DIGEST_LENGTH = 12


@dataclass(frozen=True, slots=True)
class RulesFile:
    """A rules file that can be used.

    Attributes:
        source: the file as the operator named it.
        rules: in order.
        policies: the built-in ones and those of the file, by name.
        bases: what each policy of the file extends.
        cases: the file's `tests`, not yet run: see `rule_tests.run`.
        digest: of the file's bytes, to tell versions apart.
        document: has the place of each value, for messages.
    """

    source: str
    ruleset: Ruleset
    rules: tuple[Rule, ...]
    policies: Mapping[str, Policy]
    bases: Mapping[str, str]
    cases: tuple[Case, ...]
    digest: str
    document: Document


def load(path: Path) -> RulesFile:
    """Read a rules file.

    Raises:
        RulesError: every mistake in it, or that it cannot be read.
    """
    return loads(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """Read a rules file's bytes, at most one more than allowed.

    Raises:
        RulesError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIZE_BYTES + 1)
    except FileNotFoundError as error:
        raise _unreadable(path, "no such file") from error
    except IsADirectoryError as error:
        raise _unreadable(path, "found a directory, allowed: a file") from error
    except PermissionError as error:
        raise _unreadable(
            path, "found a file that this process may not read; correct its mode or owner"
        ) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _unreadable(path: Path, text: str) -> RulesError:
    return RulesError([Mistake(0, 0, "", text, source=str(path))])


def loads(data: bytes, source: str) -> RulesFile:
    """Make a rules file of bytes.

    Args:
        source: how to name it in mistakes.

    Raises:
        RulesError: every mistake in it.
    """
    document = read(data, source)
    if document.root is None:
        raise RulesError(document.mistakes)
    tree = document.root.plain()
    model, mistakes = validate(document, tree)
    mistakes += check_references(document, tree)
    if document.mistakes or mistakes or model is None:
        raise RulesError(_one_per_place(document.mistakes, mistakes))
    policies = _policies(model)
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]
    rules = tuple(_rule(rule, policies) for rule in model.rules)
    return RulesFile(
        source=source,
        ruleset=Ruleset(rules, digest),
        rules=rules,
        policies=policies,
        bases={name: policy.extends for name, policy in model.policies.items()},
        cases=make_cases(model.tests),
        digest=digest,
        document=document,
    )


def _one_per_place(syntax: Sequence[Mistake], mistakes: Iterable[Mistake]) -> list[Mistake]:
    """Leave out what follows from a mistake in the YAML itself, and what an alias repeats."""
    known = {(mistake.line, mistake.column) for mistake in syntax}
    found: dict[tuple[int, int, str], Mistake] = {}
    for mistake in mistakes:
        if (mistake.line, mistake.column) not in known:
            found.setdefault((mistake.line, mistake.column, mistake.text), mistake)
    return [*syntax, *found.values()]


def _policies(model: schema.FileModel) -> dict[str, Policy]:
    made = dict(BUILT_IN)
    for name in model.policies:
        chain = [name]  # down to one that is made; a loop, as recursion would limit the length of the chain
        while chain[-1] not in made:
            chain.append(model.policies[chain[-1]].extends)
        for base, own_name in pairwise(reversed(chain)):
            own = model.policies[own_name]
            made[own_name] = extend(
                made[base],
                own_name,
                set_fields=own.set,
                remove=own.remove,
                etag=own.etag,
                last_modified=own.last_modified,
                conditionals=own.conditionals,
            )
    return made


def _rule(rule: schema.RuleModel, policies: Mapping[str, Policy]) -> Rule:
    unless = None if rule.unless is None else _conditions(rule.unless)
    return Rule(
        name=rule.name,
        policy=policies[rule.policy],
        match=_conditions(rule.match),
        unless=None if unless == Conditions() else unless,
        mode=rule.mode,
        because=rule.because,
    )


def _conditions(conditions: schema.ConditionsModel) -> Conditions:
    return Conditions(_keys(conditions))


def _keys(conditions: schema.ConditionsModel) -> Iterator[Key]:
    """Make the match keys; an empty list counts as an absent key."""
    if conditions.methods:
        yield Methods(conditions.methods)
    if conditions.paths:
        yield Paths(conditions.paths)
    if conditions.path_regexes:
        yield PathRegexes(conditions.path_regexes)
    yield from _value_keys(conditions)
    if conditions.script_request is not None:
        yield ScriptRequest(is_wanted=conditions.script_request)
    if conditions.response is not None:
        yield from _response_keys(conditions.response)


def _value_keys(conditions: schema.ConditionsModel) -> Iterator[Key]:
    if conditions.x_requested_with not in (None, ()):
        yield FieldKey(X_REQUESTED_WITH, conditions.x_requested_with, by_member=True)
    for name, wanted in conditions.headers.items():
        if wanted != ():
            yield FieldKey(name, wanted)
    for name, wanted in conditions.query.items():
        if wanted != ():
            yield Parameter(name, wanted)


def _response_keys(response: schema.ResponseConditionsModel) -> Iterator[Key]:
    if response.status:
        yield Statuses(response.status)
    if response.content_types:
        yield ContentTypes(response.content_types)
    if response.attachment is not None:
        yield Attachment(is_wanted=response.attachment)
