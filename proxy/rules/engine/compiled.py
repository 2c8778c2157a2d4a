"""One rule with the readings in which its keys are asked."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.message.rewrite import Treatment
from proxy.rules.engine.verdict import Outcome
from proxy.rules.keys.facts import Reading, RequestFacts, ResponseFacts
from proxy.rules.keys.key import RequestKey
from proxy.rules.model import Rule
from proxy.rules.policies import enforces, protects, treatment


class CompiledRule:
    """A rule with the readings in which it is asked.

    Attributes:
        reading: of `match` by a request; `unless` is read in the `opposite` one.
        response_reading: of `match` by a response, likewise.
        reads: names of the request fields that decide, as spelt first, without duplicates.
        is_unconditional: method and path alone decide.
    """

    def __init__(self, rule: Rule) -> None:
        self.source = rule
        self.match = rule.match
        self.unless = rule.unless
        self.observes = rule.mode == "observe"
        self.reading: Reading = "any" if enforces(rule.policy) else "every"
        self.opposite: Reading = "every" if self.reading == "any" else "any"
        self.response_reading: Reading = "any" if protects(rule.policy) else "every"
        self.opposite_response_reading: Reading = "every" if self.response_reading == "any" else "any"
        self.keys = self.match.request + (() if self.unless is None else self.unless.request)
        self._staged = {
            stage: [key for key in self.match.request if key.stage == stage]
            for stage in ("method", "path", "rest")
        }
        self._except_by_more = self.unless is not None and self.unless.asks_more_than_path
        self.is_unconditional = not self.match.asks_more_than_path and not self._except_by_more
        names: dict[str, str] = {}
        for key in self.keys:
            for name in key.reads:
                names.setdefault(name.lower(), name)
        self.reads = tuple(names.values())
        self._treatments: dict[tuple[str, ...], Treatment] = {}

    def may_match_path(self, facts: RequestFacts) -> bool:
        """Tell whether the path leaves the answer to the rest of the request."""
        return _hold(self._staged["path"], facts, self.reading)

    def may_match(self, facts: RequestFacts) -> bool:
        """Tell whether method and path leave the answer to fields and response: `Vary` depends on it."""
        if not _hold(self._staged["method"], facts, self.reading):
            return False
        return self._except_by_more or not self.excepts(facts)

    def takes(self, facts: RequestFacts) -> bool:
        """Tell whether the rule matches a request that it may match, unless its response is such that it does not."""
        return _hold(self._staged["rest"], facts, self.reading) and (
            not self.excepts(facts) or self.is_open(facts)
        )

    def matches(self, facts: RequestFacts, response: ResponseFacts) -> bool:
        """Tell whether all of `match` holds."""
        return _hold(self.match.request, facts, self.reading) and all(
            key.holds(response, self.response_reading) for key in self.match.response
        )

    def is_excepted(self, facts: RequestFacts, response: ResponseFacts) -> bool:
        """Tell whether all of `unless` holds."""
        return (
            self.unless is not None
            and self.excepts(facts)
            and all(key.holds(response, self.opposite_response_reading) for key in self.unless.response)
        )

    def excepts(self, facts: RequestFacts) -> bool:
        """Tell whether `unless` holds as far as the request can tell."""
        return self.unless is not None and _hold(self.unless.request, facts, self.opposite)

    def is_open(self, facts: RequestFacts) -> bool:
        """Tell whether the response decides if `unless` holds."""
        return self.unless is not None and bool(self.unless.response) and self.excepts(facts)

    def outcome(self, facts: RequestFacts, vary: tuple[str, ...]) -> Outcome:
        """Return what follows where the rule takes a request."""
        excepted_by = self.unless.response if self.unless is not None and self.is_open(facts) else ()
        made = self._treatments.get(vary)
        if made is None:
            made = self._treatments[vary] = treatment(self.source.policy, vary)
        return Outcome(
            self.source, self.source.policy, made, self.match.response, excepted_by, self.response_reading
        )


def _hold(keys: Iterable[RequestKey], facts: RequestFacts, reading: Reading) -> bool:
    for key in keys:  # noqa: SIM110 - a generator takes three times as long where this is compiled
        if not key.holds(facts, reading):
            return False
    return True
