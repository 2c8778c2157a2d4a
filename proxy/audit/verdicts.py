"""From evidence to one verdict a route, with the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from proxy.audit.evidence import Evidence
from proxy.audit.observation import Asker
from proxy.audit.route_evidence import RouteEvidence
from proxy.audit.versions import Contradiction

Verdict = Literal["leak", "stale", "possible", "protected", "fine"]
VERDICTS: Final[tuple[Verdict, ...]] = ("leak", "stale", "possible", "protected", "fine")
"""Worst first."""

ENOUGH_ANSWERS: Final = 10
"""This many equal answers of a static type count as a static file."""

_NONCE_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audit says of one route.

    Attributes:
        route: the method, then the folded segments.
        stale, leaks: cache keys for which this was seen.
        why: one sentence of evidence.
    """

    route: tuple[str, ...]
    evidence: RouteEvidence
    verdict: Verdict
    stale: int
    leaks: int
    why: str

    @property
    def needs_rule(self) -> bool:
        """Whether a rule is to be proposed."""
        return self.verdict in ("leak", "stale", "possible")

    @property
    def is_static(self) -> bool:
        """Everything that may be reused looks like a static file."""
        return self.evidence.reusable == self.evidence.static > 0 and not self.evidence.disguise


def judge(evidence: Evidence) -> list[Finding]:
    """Judge every route; the worst first, among equals those with most answers."""
    found = [_judge_route(route, known, evidence.blocks) for route, known in evidence.routes.items()]
    return sorted(found, key=lambda f: (VERDICTS.index(f.verdict), -f.evidence.responses, f.route))


def exposed_askers(known: RouteEvidence) -> list[Asker]:
    """Who still gets answers that caches may reuse: not those whose answers a rule has protected since."""
    return [
        asker
        for asker, (reusable_at_s, protected_at_s) in known.latest.items()
        if reusable_at_s > protected_at_s
    ]


def _judge_route(route: tuple[str, ...], known: RouteEvidence, blocks: dict[int, bytes]) -> Finding:
    contradictions = [c for key in known.keys.values() if (c := key.contradiction(blocks)) is not None]
    leaks = sum(key.leaks() for key in known.keys.values())
    if known.disguise:
        leaks = max(leaks, sum(key.differs_by_credentials() for key in known.keys.values()))
    verdict = _verdict(known, stale=len(contradictions), leaks=leaks)
    why = "; ".join(_reasons(verdict, known, contradictions))
    return Finding(route, known, verdict, len(contradictions), leaks, why)


def _verdict(known: RouteEvidence, *, stale: int, leaks: int) -> Verdict:
    if known.protected and not exposed_askers(known):
        return "protected"
    if leaks:
        return "leak"
    if stale:
        return "stale"
    if known.disguise:
        return "possible"
    is_unchanged = known.reusable == known.static >= ENOUGH_ANSWERS
    is_fine = known.reusable in (0, known.versioned, known.errors) or is_unchanged
    return "fine" if is_fine else "possible"


def _reasons(verdict: Verdict, known: RouteEvidence, changes: Sequence[Contradiction]) -> list[str]:
    match verdict:
        case "leak":
            reasons = [_leak(known)]
        case "stale":
            reasons = [_change(changes)]
        case "possible":
            reasons = [f"caches may reuse it {_for(known)}, no change seen in {_count(known.reusable)}"]
            if known.disguise:
                reasons = [_disguise(known)]
        case "protected":
            reasons = [f"a rule forbids reuse in {_count(known.protected)}"]
            if changes:
                reasons.append(f"before {_rules(known)}, {_change(changes)}")
        case "fine":
            reasons = [_fine(known)]
    if known.unseen and verdict in ("leak", "stale", "possible"):
        reasons.append("where the content was not seen, ETag and length were compared")
    if known.from_cache:
        reasons.append(f"{_count(known.from_cache)} came from the browser's cache in this recording")
    return reasons


def _leak(known: RouteEvidence) -> str:
    got = "different credentials got different content"
    if known.disguise:
        return f"{_disguise(known)}; {got}"
    return f"shared caches may reuse it {_for(known)}, and {got}"


def _change(changes: Sequence[Contradiction]) -> str:
    shares = [change.share for change in changes]
    worst = min(changes, key=lambda change: change.after_s)
    after = f"{worst.after_s:.0f} s" if worst.after_s >= 1 else "less than a second"
    text = f"the content changed {after} after an answer that caches may reuse {_duration(worst.reusable_s)}"
    known = [share for share in shares if share is not None]
    if len(known) == len(shares) and max(known) < _NONCE_SHARE:
        return f"{text}; less than 1 % of the bytes differ, as a token or a nonce in a page does"
    return text


def _rules(known: RouteEvidence) -> str:
    """Name the rules that first protected what had been reusable."""
    reusable_at_s = max((reusable_at_s for reusable_at_s, _ in known.latest.values()), default=0.0)
    after = [(since_s, digest) for digest, since_s in known.protected_by.items() if since_s > reusable_at_s]
    return f"rules {min(after)[1]}" if after else "that"


def _disguise(known: RouteEvidence) -> str:
    kind = " or ".join(sorted(known.types)) or "no file"
    return (
        f"a CDN that caches by extension takes it for a static file ('{known.disguise}'), "
        f"but it is {kind} and was asked for with credentials"
    )


def _fine(known: RouteEvidence) -> str:
    if not known.reusable:
        return "no cache may reuse it without asking"
    if known.reusable == known.errors:
        return "nothing but errors may be reused, and they did not change"
    if known.reusable == known.versioned:
        return "made to be kept: its URL changes with its content, or it says so"
    return f"looks static, and did not change in {_count(known.reusable)}"


def _for(known: RouteEvidence) -> str:
    return _duration(known.lifetime_s)


def _duration(seconds: float) -> str:
    if math.isinf(seconds):
        return "as long as they choose, as no lifetime is given"
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"for {seconds / size:.0f} {unit}"
    return f"for {seconds:.0f} s"


def _count(answers: int) -> str:
    return f"{answers} answer" if answers == 1 else f"{answers} answers"
