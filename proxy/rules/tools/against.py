"""Finds the decisions that change between two rules files, by requests from their tests and from their globs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from proxy.message.errors import MessageError
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.methods import Methods
from proxy.rules.keys.paths import Paths
from proxy.rules.loading.loader import RulesFile
from proxy.rules.model import Rule
from proxy.rules.tools.dry_run import Trial, TrialRequest, TrialResponse, run_trial

ASKERS: Final = {
    "a page": ((b"Sec-Fetch-Dest", b"document"),),
    "XMLHttpRequest": ((b"X-Requested-With", b"XMLHttpRequest"),),
    "fetch()": ((b"Sec-Fetch-Dest", b"empty"),),
}
"""Who asks, and what that sends."""

_WILD: Final = {"/**/": "/a/", "**": "a", "*": "1", "?": "x"}


@dataclass(frozen=True, slots=True)
class ChangedDecision:
    """One request whose decision changes."""

    request: TrialRequest
    before: str
    after: str

    def __str__(self) -> str:
        target = self.request.target.decode("utf-8", "backslashreplace")
        sent = ", ".join(
            f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in self.request.fields
        )
        asked = f"{self.request.method} {target}{f' ({sent})' if sent else ''}"
        return f"{asked}: {self.before} -> {self.after}"


def changes(
    old: RulesFile, new: RulesFile, also: Iterable[tuple[TrialRequest, TrialResponse]] = ()
) -> list[ChangedDecision]:
    """Compare two rules files.

    Args:
        also: more requests to try than those of the tests and rules.

    Returns:
        Each request once whose rule, policy or observed rule differs, in the order in which they were tried.
    """
    found: dict[tuple[TrialRequest, str, str], ChangedDecision] = {}
    for request, response in (*_tests(old), *_tests(new), *_examples(old), *_examples(new), *also):
        try:
            before, after = (
                _decision(run_trial(rules_file.ruleset, request, response)) for rules_file in (old, new)
            )
        except MessageError:
            continue  # the gateway refuses it before any rule is asked
        if before != after:
            found.setdefault((request, before, after), ChangedDecision(request, before, after))
    return list(found.values())


def _decision(trial: Trial) -> str:
    rule, observed = trial.resolution.rule, trial.resolution.observed
    said = "no rule" if rule is None else f"rule {rule.name}, policy {trial.policy.name}"
    return said if observed is None else f"{said}, observed {observed.name}"


def _tests(rules_file: RulesFile) -> Iterator[tuple[TrialRequest, TrialResponse]]:
    return ((case.request, case.response) for case in rules_file.cases)


def _examples(rules_file: RulesFile) -> Iterator[tuple[TrialRequest, TrialResponse]]:
    """Requests for every glob of every rule, one for each kind of client."""
    for rule in rules_file.rules:
        for path in _paths(rule):
            methods = rule.match.get(Methods)
            for method in sorted({"GET"} if methods is None else methods.methods):
                for fields in ASKERS.values():
                    yield TrialRequest(method, path, fields), TrialResponse()


def _paths(rule: Rule) -> Iterator[bytes]:
    for conditions in (rule.match, rule.unless or Conditions()):
        paths = conditions.get(Paths)
        for glob in () if paths is None else paths.texts:
            yield re.sub(r"/\*\*/|\*\*|\*|\?", lambda found: _WILD[found[0]], glob).encode()
