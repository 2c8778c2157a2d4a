"""What caches may do with one response, in words: before the rules touched it and after."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from proxy.audit.assess import Assessment, CacheKind, assess
from proxy.message.directives import parse_directives
from proxy.message.fields import Fields, list_members, values_of
from proxy.rules.tools.dry_run import SOME_DATE
from proxy.rules.tools.explain import Explanation

_IE_KEYS_BY: Final = frozenset((b"accept-encoding", b"host", b"user-agent"))
_NOW_S: Final = int(parsedate_to_datetime(SOME_DATE.decode()).timestamp())


def caches_of(explanation: Explanation) -> dict[str, dict[str, str]]:
    """Tell for each kind of cache what it may do with the app's response, and with what the client gets."""
    request, before, trial = explanation.request, explanation.response, explanation.trial
    answers = {"before": (before.status, before.fields), "after": (trial.status, trial.fields)}
    return {
        cache: {
            when: _SAYS[cache](request.method, request.fields, status, fields)
            for when, (status, fields) in answers.items()
        }
        for cache in _SAYS
    }


def _general(cache: CacheKind) -> Callable[[str, Fields, int, Fields], str]:
    def says(method: str, request_fields: Fields, status: int, fields: Fields) -> str:
        return _words(_assess(method, request_fields, status, fields, cache))

    return says


def _internet_explorer(method: str, request_fields: Fields, status: int, fields: Fields) -> str:
    """Apply its habits: one response for each URL, `Pragma` counts, and what has no lifetime is reused until it is closed."""
    if any(d.name == "no-cache" for d in parse_directives(values_of(fields, b"pragma"))):
        return "must not store it"
    assessment = _assess(method, request_fields, status, fields, "private")
    members = [member.lower() for value in values_of(fields, b"vary") for member in list_members(value)]
    if assessment.may_store and not _IE_KEYS_BY.issuperset(members):
        return "may store it, and asks before each use, because of Vary"
    if assessment.may_reuse_without_validation and assessment.freshness_lifetime_s is None:
        return "may reuse it until it is closed, as no lifetime is given"
    return _words(assessment)


_SAYS: Final[dict[str, Callable[[str, Fields, int, Fields], str]]] = {
    "private": _general("private"),
    "shared": _general("shared"),
    "internet_explorer": _internet_explorer,
}


def _assess(method: str, request_fields: Fields, status: int, fields: Fields, cache: CacheKind) -> Assessment:
    return assess(method, status, request_fields, fields, cache=cache, received_at_s=_NOW_S)


def _words(assessment: Assessment) -> str:
    if not assessment.may_store:
        return "must not store it"
    if not assessment.may_reuse_without_validation:
        return "may store it, and must ask before each use"
    seconds = assessment.freshness_lifetime_s
    if assessment.freshness == "explicit":
        return f"may reuse it for {seconds} s"
    chosen = "" if seconds is None else f", typically {seconds} s"
    return f"may reuse it as long as it chooses{chosen}, as no lifetime is given"
