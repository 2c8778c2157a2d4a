"""The decision: which rule speaks for a request, and, once its head is there, for the response.

What rules ask of paths is asked of all of them at once, so that a thousand rules cost what one costs; what
they ask of fields is asked once for each combination of values and then remembered.

Two readings of every condition keep the guarantee. An enforcing rule matches if *any* reading of the
request (spelling of the path, overridden method) does, and is excepted by `unless` only if *all* do; a
rule that weakens protection (`pass`, `revalidate`) the other way round. What a 304 does not say of the
response that it stands for is taken for what protects it: there `revalidate` counts among the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.message.fields import Field, list_members
from proxy.message.methods import OVERRIDES
from proxy.message.rewrite import UNTOUCHED, Treatment
from proxy.rules.engine.conditions import FieldTest, ResponseFacts, is_script_request
from proxy.rules.engine.path_sets import PathSet
from proxy.rules.engine.spellings import spellings, with_other_end
from proxy.rules.model import Conditions, Policy, ResponseConditions, Rule
from proxy.rules.policies import PASS, enforces, protects, treatment

X_REQUESTED_WITH: Final = "X-Requested-With"
SEC_FETCH_DEST: Final = "Sec-Fetch-Dest"

# A peer that sends ever new paths or values costs time, never memory: some 10 MiB at the most. Tables are emptied
# when full, and nothing long is put there. A path in plain spelling is not remembered: what is found out in less than a
# microsecond costs more to keep, as all that was kept long ago has left the processor's caches.
_MAX_PLANS: Final = 1024
_MAX_VERDICTS: Final = 4096
_MAX_REMEMBERED_BYTES: Final = 1024

Values = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule whose request conditions hold, or (`rule` is `None`) that none did.

    Attributes:
        needs, excepted_by: response conditions still to be asked; `None` when there are none.
        protects: `needs` is read broadly and `excepted_by` narrowly, else the other way round.
    """

    rule: Rule | None
    policy: Policy
    treatment: Treatment
    needs: ResponseConditions | None = None
    excepted_by: ResponseConditions | None = None
    protects: bool = False

    @property
    def observes(self) -> bool:
        """The rule is only watched."""
        return self.rule is not None and self.rule.mode == "observe"


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
    observed_treatment: Treatment | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of a request before its response is known.

    Attributes:
        outcomes: in the order of the rules; the last one depends on nothing.
        vary: names of request fields that decide here, for `Vary`.
        strips_conditionals: some outcome strips them: the app must not be able to answer 304.
        settled: the resolution when no response can change it.
    """

    outcomes: tuple[Outcome, ...]
    vary: tuple[str, ...]
    strips_conditionals: bool
    settled: Resolution | None = None

    def resolve(self, status: int, fields: Sequence[Field]) -> Resolution:
        """Decide for a final response with this status and these fields."""
        if self.settled is not None:
            return self.settled
        return _resolve(self.outcomes, ResponseFacts(status, fields))

    @property
    def rule(self) -> Rule | None:
        """The rule that decides unless the response's conditions say otherwise."""
        return next((outcome.rule for outcome in self.outcomes if not outcome.observes), None)


class Ruleset:
    """The rules, compiled. Immutable to its users; what it remembers is only a matter of speed.

    Attributes:
        rules: in the order of the file.
        field_names: lower-case names of the request fields that rules read, in the order of `values`.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        names = [name.lower().encode("latin-1") for rule in self.rules for name in _fields_read(rule)]
        if any(_names_methods(rule) for rule in self.rules):
            names += OVERRIDES
        self.field_names = tuple(dict.fromkeys(names))
        self._paths = PathSet()
        self._broad_paths: set[int] = set()
        self._compiled = tuple(_CompiledRule(rule, self) for rule in self.rules)
        self._plans: dict[bytes, _Plan] = {}  # by a path that has several spellings
        self._plans_by_hits: dict[tuple[frozenset[int], frozenset[int]], _Plan] = {}
        self._verdicts = 0  # in all plans

    def decide(self, method: str, path: bytes, values: Values) -> Verdict:
        """Decide as far as a request can tell.

        Args:
            method: as sent.
            path: the request target up to `?`, as sent.
            values: of `field_names`: the lines of each joined by `, `, `None` when absent.
        """
        plan = self._plans.get(path)
        if plan is None:
            plan = self._plan(path)
        verdict = plan.verdicts.get((method, values))
        if verdict is None:
            verdict = self._verdict(plan, method, values)
            if sum([len(value) for value in values if value is not None]) <= _MAX_REMEMBERED_BYTES:
                self._verdicts += 1
                plan.verdicts[method, values] = verdict
                if self._verdicts >= _MAX_VERDICTS:
                    self._forget()
        return verdict

    def _forget(self) -> None:
        self._verdicts = 0
        self._plans.clear()
        self._plans_by_hits.clear()

    def value(self, values: Values, name: str) -> str | None:
        """Return what the request has in a field that rules read."""
        raw = values[self.field_names.index(name.lower().encode("latin-1"))]
        return None if raw is None else raw.decode("latin-1")

    def add_paths(self, conditions: Conditions, *, is_broad: bool) -> list[frozenset[int]]:
        """Add what conditions ask of paths; in the broad reading it holds if any spelling does, else if all do.

        Returns:
            The numbers of the globs, and those of the expressions; of each that is given, one must hold.
        """
        groups = []
        if conditions.paths is not None:
            groups.append(frozenset(map(self._paths.add_glob, conditions.paths)))
        if conditions.path_regexes is not None:
            groups.append(frozenset(map(self._paths.add_regex, conditions.path_regexes)))
        if is_broad:
            self._broad_paths.update(*groups)
        return groups

    def _plan(self, path: bytes) -> _Plan:
        found = spellings(path)
        hits = [self._paths.match(spelling) for spelling in found]
        narrow = broad = hits[0]
        for more in hits[1:]:
            narrow &= more
            broad |= more
        if not self._broad_paths <= broad:
            broad = broad.union(*[self._paths.match(with_other_end(spelling)) for spelling in found])
        if len(self._plans_by_hits) >= _MAX_PLANS:
            self._forget()
        plan = self._plans_by_hits.get((broad, narrow))
        if plan is None:
            possible = tuple(rule for rule in self._compiled if rule.may_match_path(broad, narrow))
            plan = self._plans_by_hits[broad, narrow] = _Plan(broad, narrow, possible)
        if len(found) > 1 and len(path) <= _MAX_REMEMBERED_BYTES:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[path] = plan
        return plan

    def _verdict(self, plan: _Plan, method: str, values: Values) -> Verdict:
        facts = _RequestFacts(plan, self._methods(method, values), values, self)
        vary: dict[str, str] = {}
        hits: list[tuple[_CompiledRule, ResponseConditions | None, ResponseConditions | None]] = []
        is_decided = False
        for rule in plan.rules:
            if not rule.may_match(facts):
                continue
            if not rule.observes:
                for name in rule.fields_read:
                    vary.setdefault(name.lower(), name)
            if not is_decided:
                holds, excepted = rule.ask(facts)
                if holds and excepted is not True:
                    excepted_by = None if excepted is False else excepted
                    hits.append((rule, rule.source.match.response, excepted_by))
                    is_decided = (
                        rule.source.match.response is None and excepted_by is None and not rule.observes
                    )
            if is_decided and rule.is_unconditional and not rule.observes:
                break  # no later rule can apply to this method and path, so none adds to `Vary`
        names = tuple(vary.values())
        outcomes = [
            Outcome(
                rule.source, rule.source.policy, rule.treatment_with(names), needs, excepted_by, rule.protects
            )
            for rule, needs, excepted_by in hits
        ]
        if not hits or outcomes[-1].needs or outcomes[-1].excepted_by or outcomes[-1].observes:
            outcomes.append(Outcome(None, PASS, treatment(PASS, names) if names else UNTOUCHED))
        settled = all(outcome.needs is None and outcome.excepted_by is None for outcome in outcomes)
        return Verdict(
            outcomes=tuple(outcomes),
            vary=names,
            strips_conditionals=any(o.policy.conditionals == "strip" and not o.observes for o in outcomes),
            settled=_resolve(outcomes, None) if settled else None,
        )

    def _methods(self, method: str, values: Values) -> frozenset[str]:
        methods = {method}
        for name in OVERRIDES:
            if name in self.field_names:
                override = values[self.field_names.index(name)]
                if override:
                    methods |= {member.decode("latin-1").upper() for member in list_members(override)}
        return frozenset(methods)


def _resolve(outcomes: Sequence[Outcome], facts: ResponseFacts | None) -> Resolution:
    observed: Outcome | None = None
    for outcome in outcomes:
        if facts is not None and (
            (outcome.needs is not None and not facts.hold(outcome.needs, is_broad=outcome.protects))
            or (
                outcome.excepted_by is not None
                and facts.hold(outcome.excepted_by, is_broad=not outcome.protects)
            )
        ):
            continue
        if not outcome.observes:
            watched = (observed.rule, observed.treatment) if observed else (None, None)
            return Resolution(outcome.rule, outcome.policy, outcome.treatment, *watched)
        observed = observed or outcome
    raise AssertionError("the last outcome depends on nothing")


@dataclass(slots=True)
class _Plan:
    """What the path alone tells: shared by all paths that the same expressions match."""

    broad: frozenset[int]
    narrow: frozenset[int]
    rules: tuple[_CompiledRule, ...]
    verdicts: dict[tuple[str, Values], Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _RequestFacts:
    plan: _Plan
    methods: frozenset[str]
    values: Values
    ruleset: Ruleset

    def value(self, name: str) -> str | None:
        return self.ruleset.value(self.values, name)


class _CompiledRule:
    """A rule with its conditions in both readings."""

    def __init__(self, rule: Rule, ruleset: Ruleset) -> None:
        self.source = rule
        self.observes = rule.mode == "observe"
        self.protects = protects(rule.policy)
        is_broad = enforces(rule.policy)
        self.match = _CompiledConditions(rule.match, ruleset, is_broad=is_broad)
        self.unless = (
            None if rule.unless is None else _CompiledConditions(rule.unless, ruleset, is_broad=not is_broad)
        )
        self.fields_read = _fields_read(rule)
        self.is_unconditional = not self.match.reads_more_than_path and (
            self.unless is None or not self.unless.reads_more_than_path
        )
        self._treatments: dict[tuple[str, ...], Treatment] = {}

    def may_match_path(self, broad: frozenset[int], narrow: frozenset[int]) -> bool:
        return self.match.path_holds(broad, narrow)

    def may_match(self, facts: _RequestFacts) -> bool:
        """Whether method and path leave the answer to fields and response: `Vary` depends on it."""
        if not self.match.method_holds(facts.methods):
            return False
        unless = self.unless
        return unless is None or unless.reads_more_than_path or not unless.holds(facts)

    def ask(self, facts: _RequestFacts) -> tuple[bool, bool | ResponseConditions]:
        """Whether `match` holds, and whether `unless` does: yes, no, or if the response is such."""
        if not self.match.fields_hold(facts):
            return False, False
        if self.unless is None or not self.unless.holds(facts):
            return True, False
        return True, self.unless.source.response or True

    def treatment_with(self, vary: tuple[str, ...]) -> Treatment:
        made = self._treatments.get(vary)
        if made is None:
            made = self._treatments[vary] = treatment(self.source.policy, vary)
        return made


class _CompiledConditions:
    """`match` or `unless`, compiled in the broad reading (any) or the narrow one (all)."""

    def __init__(self, conditions: Conditions, ruleset: Ruleset, *, is_broad: bool) -> None:
        self.source = conditions
        self.is_broad = is_broad
        self._path_groups = ruleset.add_paths(conditions, is_broad=is_broad)
        self._field_conditions = [(condition, FieldTest(condition)) for condition in conditions.fields]

    @property
    def reads_more_than_path(self) -> bool:
        source = self.source
        return bool(source.fields) or source.script_request is not None or source.response is not None

    def holds(self, facts: _RequestFacts) -> bool:
        return (
            self.method_holds(facts.methods)
            and self.path_holds(facts.plan.broad, facts.plan.narrow)
            and self.fields_hold(facts)
        )

    def method_holds(self, methods: frozenset[str]) -> bool:
        asked = self.source.methods
        if asked is None:
            return True
        return not asked.isdisjoint(methods) if self.is_broad else methods <= asked

    def path_holds(self, broad: frozenset[int], narrow: frozenset[int]) -> bool:
        hits = broad if self.is_broad else narrow
        return all(not group.isdisjoint(hits) for group in self._path_groups)

    def fields_hold(self, facts: _RequestFacts) -> bool:
        script = self.source.script_request
        if script is not None and script is not is_script_request(
            facts.value(X_REQUESTED_WITH), facts.value(SEC_FETCH_DEST)
        ):
            return False
        return all(test.holds(facts.value(condition.name)) for condition, test in self._field_conditions)


def _fields_read(rule: Rule) -> tuple[str, ...]:
    """Names of the request fields that a rule reads, spelt as its author did, without duplicates."""
    names: dict[str, str] = {}
    for conditions in (rule.match, rule.unless):
        if conditions is None:
            continue
        if conditions.script_request is not None:
            names.setdefault(X_REQUESTED_WITH.lower(), X_REQUESTED_WITH)
            names.setdefault(SEC_FETCH_DEST.lower(), SEC_FETCH_DEST)
        for condition in conditions.fields:
            names.setdefault(condition.name.lower(), condition.name)
    return tuple(names.values())


def _names_methods(rule: Rule) -> bool:
    return any(
        conditions is not None and conditions.methods is not None for conditions in (rule.match, rule.unless)
    )
