"""What the rules say of a request, and then of its response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.message.fields import Field
from proxy.message.methods import RETRIEVALS
from proxy.message.rewrite import Treatment
from proxy.message.status import NOT_MODIFIED
from proxy.rules.keys.facts import Reading, ResponseFacts, ResponseKind, kind_of
from proxy.rules.keys.key import ResponseKey
from proxy.rules.model import Policy, Rule
from proxy.rules.policies import STRICT, treatment

# An app gives few types of content; what it makes up is not kept.
_MAX_KINDS: Final = 16  # of responses, for a verdict
_MAX_KIND_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule whose request conditions hold, or (`rule` is `None`) that none did.

    Attributes:
        needs: keys of `match` that only the response can answer.
        excepted_by: likewise of `unless`, whose other keys hold; empty when nothing can except the rule any more.
        reading: of `needs`; `excepted_by` is read the other way round.
    """

    rule: Rule | None
    policy: Policy
    treatment: Treatment
    needs: tuple[ResponseKey, ...] = ()
    excepted_by: tuple[ResponseKey, ...] = ()
    reading: Reading = "every"

    @property
    def observes(self) -> bool:
        """The rule is only watched."""
        return self.rule is not None and self.rule.mode == "observe"

    @property
    def is_open(self) -> bool:
        """The response decides."""
        return bool(self.needs or self.excepted_by)

    def applies_to(self, response: ResponseFacts) -> bool:
        """Tell whether the response has what the rule asks of it."""
        if not all(key.holds(response, self.reading) for key in self.needs):
            return False
        opposite: Reading = "every" if self.reading == "any" else "any"
        return not self.excepted_by or not all(key.holds(response, opposite) for key in self.excepted_by)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is done with a response.

    Attributes:
        rule: the one that decides, `None` when no rule matched.
        observed: the first `observe` rule that would have decided before it.
    """

    rule: Rule | None
    policy: Policy
    treatment: Treatment
    observed: Rule | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of a request before its response is known.

    Attributes:
        outcomes: in the order of the rules; the last one depends on nothing.
        vary: names of request fields that decide here, for `Vary`.
        strips_conditionals: some outcome strips them: the app must not be able to answer 304.
        settled: the resolution when no response can change it.
        resolved: else, by what the keys read in a response: the last ones, as a matter of speed only.
    """

    outcomes: tuple[Outcome, ...]
    vary: tuple[str, ...]
    strips_conditionals: bool
    settled: Resolution | None = None
    resolved: dict[ResponseKind, Resolution] = field(default_factory=dict, compare=False, repr=False)

    def resolve(self, status: int, fields: Sequence[Field]) -> Resolution:
        """Decide for a final response with this status and these fields."""
        if self.settled is not None:
            return self.settled
        kind = kind_of(status, fields)
        found = self.resolved.get(kind)
        return self._resolve_anew(kind) if found is None else found

    def _resolve_anew(self, kind: ResponseKind) -> Resolution:
        resolution = resolve(self.outcomes, ResponseFacts(kind))
        if sum(map(len, kind[1] + kind[2])) <= _MAX_KIND_BYTES:
            if len(self.resolved) >= _MAX_KINDS:
                del self.resolved[next(iter(self.resolved))]
            self.resolved[kind] = resolution
        return resolution

    def strips(self, method: str) -> bool:
        """Tell whether a request with this method loses the conditions that let the app answer 304."""
        return self.strips_conditionals and method in RETRIEVALS

    def forbids(self, method: str, status: int) -> bool:
        """Tell whether this status answers a condition that the app did not get: a fault of the app."""
        return status == NOT_MODIFIED and self.strips(method)

    @property
    def rule(self) -> Rule | None:
        """The rule that decides whatever the response is, `None` when there is none."""
        first = next((outcome for outcome in self.outcomes if not outcome.observes), None)
        return None if first is None or first.is_open else first.rule

    @property
    def stripping_rule(self) -> Rule | None:
        """The first rule for whose sake conditions are left out of the request."""
        stripping = (
            outcome.rule
            for outcome in self.outcomes
            if not outcome.observes and outcome.policy.conditionals == "strip"
        )
        return next(stripping, None)


def resolve(outcomes: Sequence[Outcome], response: ResponseFacts | None) -> Resolution:
    """Take the first outcome that applies to a response; `None` where none depends on it."""
    observed: Rule | None = None
    for outcome in outcomes:
        if response is not None and outcome.is_open and not outcome.applies_to(response):
            continue
        if not outcome.observes:
            return Resolution(outcome.rule, outcome.policy, outcome.treatment, observed)
        observed = observed or outcome.rule
    raise AssertionError("the last outcome depends on nothing")


_STRICT_TREATMENT: Final = treatment(STRICT)
FAIL_SAFE: Final = Verdict(
    outcomes=(Outcome(None, STRICT, _STRICT_TREATMENT),),
    vary=(),
    strips_conditionals=True,
    settled=Resolution(None, STRICT, _STRICT_TREATMENT),
)
"""Of a request on which deciding failed: never an unprotected response."""
