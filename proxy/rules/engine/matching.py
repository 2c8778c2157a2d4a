"""The decision: which rule speaks for a request, and, once its head is there, for the response.

What rules ask of paths is asked of all of them at once, so that a thousand rules cost what one costs; so is what they
ask of the value of each field, and the answer is remembered for each combination of values.

Two readings of every key keep the guarantee. An enforcing rule matches if *any* reading of the request (spelling of the
path, overridden method, one of two equal fields) does, and is excepted by `unless` only if *every* one is; a rule that
weakens protection (`pass`, `revalidate`) the other way round. What a 304 does not say of the response that it stands
for is taken for what protects it: there `revalidate` counts among the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from proxy.message.forwarding import PATH_FIELDS
from proxy.message.methods import OVERRIDES
from proxy.message.request import FieldLines
from proxy.message.rewrite import UNTOUCHED
from proxy.rules.engine.compiled import CompiledRule
from proxy.rules.engine.path_sets import PathSet
from proxy.rules.engine.readings import (
    field_readings,
    lines_of,
    methods_named,
    moved_paths,
    parameter_readings,
)
from proxy.rules.engine.spellings import spellings, with_other_end
from proxy.rules.engine.value_sets import ValueSet
from proxy.rules.engine.verdict import Outcome, Verdict, resolve
from proxy.rules.keys.facts import (
    ABSENT,
    NO_PATTERNS,
    PATH,
    Hits,
    Pattern,
    Patterns,
    Reading,
    RequestFacts,
    Subject,
    field_subject,
    merge,
)
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.query import QUERY, parameter_subject
from proxy.rules.model import Rule
from proxy.rules.policies import PASS, treatment

# A peer that sends ever new paths or values costs time, never memory: some 10 MiB at the most. Tables are emptied
# when full, and nothing long is put there. A path in plain spelling is not remembered: what is found out in less than a
# microsecond costs more to keep, as all that was kept long ago has left the processor's caches.
_MAX_PLANS: Final = 1024
_MAX_VERDICTS: Final = 2048
_MAX_REMEMBERED_BYTES: Final = 1024

_FEW_RULES: Final = 32  # of so many it costs less to collect the patterns than to ask all that the file has

Values = tuple[FieldLines, ...]
ParameterHits = tuple[tuple[Subject, Hits], ...]
"""What matches the parameters that are there. Verdicts are remembered by it: queries are many, what matches is not."""
VerdictKey = tuple[str, Values] | tuple[str, Values, ParameterHits]

_MOVED: Final = ("moved", Hits(NO_PATTERNS, NO_PATTERNS))
_NOTHING: Final[frozenset[str]] = frozenset()


class Ruleset:
    """The rules, compiled. Immutable to its users; what it remembers is only a matter of speed.

    Attributes:
        rules: in the order of the file.
        digest: of the file, to tell versions apart; empty where there is none.
        compiled: the same with their readings.
        field_names: lower-case names of the request fields that rules read, in the order of `values`.
    """

    def __init__(self, rules: Iterable[Rule] = (), digest: str = "") -> None:
        self.rules = tuple(rules)
        self.digest = digest
        self.compiled = tuple(CompiledRule(rule) for rule in self.rules)
        self._paths = PathSet()
        self._values: dict[Subject, ValueSet] = {}  # of fields
        self._parameters: dict[Subject, ValueSet] = {}
        self._paths_of_any: set[str] = set()
        names = [name.lower().encode("latin-1") for rule in self.compiled for name in rule.reads]
        if any(key.stage == "method" for rule in self.compiled for key in rule.keys):
            names += OVERRIDES
        if any(key.stage == "path" for rule in self.compiled for key in rule.keys):
            names += PATH_FIELDS
        self.field_names = tuple(dict.fromkeys(names))
        for rule in self.compiled:
            self._add_patterns(rule.match, rule.reading)
            self._add_patterns(rule.unless, rule.opposite)
        self._places = {field_subject(name.decode()): i for i, name in enumerate(self.field_names)}
        self._override_places = [i for i, name in enumerate(self.field_names) if name in OVERRIDES]
        self._move_places = [(name, i) for i, name in enumerate(self.field_names) if name in PATH_FIELDS]
        # Of a path that is too odd to be spelt: it may be any.
        self._any_path = Hits(self._paths.all(), NO_PATTERNS)
        # Of a query that is too long to be read: every parameter may be there, with any value, or not.
        self._unknown = tuple(
            (subject, Hits(values.all() | {ABSENT}, NO_PATTERNS))
            for subject, values in self._parameters.items()
        )
        self._plans: dict[bytes, _Plan] = {}  # by a path that has several spellings
        self._plans_by_hits: dict[tuple[Patterns, Patterns], _Plan] = {}
        self._verdicts = 0  # in all plans

    def decide(self, method: str, target: bytes, values: Values) -> Verdict:
        """Decide as far as a request can tell.

        Args:
            method: as sent.
            target: the request target in origin-form or `*`, as sent.
            values: of `field_names`: `None` when absent, several lines as a tuple.
        """
        path = target.partition(b"?")[0]
        plan = self._plans.get(path)
        if plan is None:
            plan = self._plan(path)
        if plan.parameters:
            return self._decide_by_query(plan, method, target, values)
        verdict = plan.verdicts.get((method, values))
        return self._decide_anew(plan, method, target, values) if verdict is None else verdict

    def _decide_by_query(self, plan: _Plan, method: str, target: bytes, values: Values) -> Verdict:
        parameters = self._parameter_hits(target, plan.parameters)
        verdict = None if parameters is None else plan.verdicts.get((method, values, parameters))
        return self._decide_anew(plan, method, target, values) if verdict is None else verdict

    def _decide_anew(self, plan: _Plan, method: str, target: bytes, values: Values) -> Verdict:
        may_move = any(values[place] is not None for _, place in self._move_places)
        if may_move:
            found = spellings(target.partition(b"?")[0])
            plan = self._plan_of_hits(self._path_hits(self._with_moved(found, values)))
        parameters = self._parameter_hits(target, plan.parameters) if plan.parameters else ()
        if parameters is None or (may_move and plan.parameters):  # another path may bring another query
            return self._verdict(plan, self._facts(plan.hits, method, values, plan.rules, self._unknown))
        key: VerdictKey = (method, values, parameters) if parameters else (method, values)
        # Under the other key, a request to a path that the same patterns match, with the same fields, would find it.
        if may_move:
            key = (method, values, (_MOVED,))
        verdict = plan.verdicts.get(key)
        if verdict is None:
            verdict = self._verdict(plan, self._facts(plan.hits, method, values, plan.rules, parameters))
            self._remember(plan, key, verdict, values)
        return verdict

    def _remember(self, plan: _Plan, key: VerdictKey, verdict: Verdict, values: Values) -> None:
        if _size(values) > _MAX_REMEMBERED_BYTES:
            return
        self._verdicts += 1
        plan.verdicts[key] = verdict
        if self._verdicts >= _MAX_VERDICTS:
            self._forget()

    def examine(self, method: str, target: bytes, values: Values) -> RequestFacts:
        """Return what the rules' keys see in a request, with all that `explain` shows."""
        path = target.partition(b"?")[0]
        found = spellings(path)
        sent = path.decode("utf-8", "replace")
        found.sort(key=lambda spelling: (spelling != sent, spelling))
        found = self._with_moved(found, values)
        parameters = self._parameter_hits(target, self._parameters.keys())
        facts = self._facts(
            self._path_hits(found),
            method,
            values,
            self.compiled,
            self._unknown if parameters is None else parameters,
        )
        facts.target = target
        facts.spellings = [(spelling, self._match_with_other_end(spelling)) for spelling in found]
        facts.lines = {
            name.decode(): [line.decode("latin-1") for line in lines_of(sent_lines)]
            for name, sent_lines in zip(self.field_names, values, strict=True)
            if sent_lines is not None
        }
        return facts

    def _add_patterns(self, conditions: Conditions | None, reading: Reading) -> None:
        for key in conditions.request if conditions is not None else ():
            for subject, patterns in key.patterns.items():
                if subject == PATH:
                    for pattern in patterns:
                        self._paths.add(pattern)
                    if reading == "any":
                        self._paths_of_any |= patterns
                elif subject.startswith(QUERY):
                    parameters = self._parameters.setdefault(subject, ValueSet(ignores_case=False))
                    for pattern in patterns:
                        parameters.add(pattern)
                else:
                    values = self._values.setdefault(subject, ValueSet())
                    for pattern in patterns:
                        values.add(pattern)

    def _plan(self, path: bytes) -> _Plan:
        found = spellings(path)
        if len(found) == 1:
            return self._plan_of_hits(self._plain_hits(found[0]))
        plan = self._plan_of_hits(self._path_hits(found))
        if len(path) <= _MAX_REMEMBERED_BYTES:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[path] = plan
        return plan

    def _plain_hits(self, path: str) -> Hits:
        hits = self._paths.match(path)
        if hits is None:
            return self._any_path
        if self._paths_of_any <= hits:
            return Hits(hits, hits)
        others = self._paths.match(with_other_end(path))
        return self._any_path if others is None else Hits(hits | others, hits)

    def _path_hits(self, found: Sequence[str]) -> Hits:
        """Match all spellings; where one takes too long, or there are none, the path may be any."""
        hits = self._merged_hits(found)
        others = self._merged_hits([with_other_end(spelling) for spelling in found])
        if hits is None or others is None:
            return self._any_path
        return Hits(hits.of_any | others.of_any, hits.of_every)

    def _merged_hits(self, found: Sequence[str]) -> Hits | None:
        matched = [self._paths.match(spelling) for spelling in found]
        known = [patterns for patterns in matched if patterns is not None]
        return merge(known) if known and len(known) == len(matched) else None

    def _match_with_other_end(self, spelling: str) -> Patterns:
        matched = [self._paths.match(each) for each in (spelling, with_other_end(spelling))]
        return NO_PATTERNS.union(*[each for each in matched if each is not None])

    def _plan_of_hits(self, hits: Hits) -> _Plan:
        if len(self._plans_by_hits) >= _MAX_PLANS:
            self._forget()
        plan = self._plans_by_hits.get((hits.of_any, hits.of_every))
        if plan is None:
            plan = self._plans_by_hits[hits.of_any, hits.of_every] = self._new_plan(hits)
        return plan

    def _with_moved(self, found: Sequence[str], values: Values) -> list[str]:
        """Add the paths that a field of a trusted proxy may put in the place of these; none is still any path."""
        sent = [(name, values[place]) for name, place in self._move_places if found]
        moved = {path for name, field_lines in sent for path in moved_paths(name, field_lines, found)}
        return [*found, *sorted(moved.difference(found))]

    def _new_plan(self, hits: Hits) -> _Plan:
        facts = RequestFacts(method="", methods=frozenset(), hits={PATH: hits})
        rules = tuple(rule for rule in self.compiled if rule.may_match_path(facts))
        asked = self._parameters.keys() & _patterns_of(rules).keys() if self._parameters else _NOTHING
        return _Plan(hits, rules, frozenset(asked))

    def _forget(self) -> None:
        self._verdicts = 0
        self._plans.clear()
        self._plans_by_hits.clear()

    def _facts(
        self,
        path: Hits,
        method: str,
        values: Values,
        rules: Sequence[CompiledRule],
        parameters: ParameterHits,
    ) -> RequestFacts:
        """Find out what keys of these rules ask."""
        hits = {PATH: path, **dict(parameters)}
        wanted = _patterns_of(rules) if len(rules) <= _FEW_RULES else None
        for subject in self._values if wanted is None else self._values.keys() & wanted.keys():
            hits[subject] = self._field_hits(subject, values, None if wanted is None else wanted[subject])
        methods = {method}
        for place in self._override_places:
            if values[place] is not None:
                methods |= methods_named(values[place])
        return RequestFacts(method=method, methods=frozenset(methods), hits=hits)

    def _field_hits(self, subject: Subject, values: Values, wanted: set[Pattern] | None) -> Hits:
        return self._values[subject].match_all(field_readings(values[self._places[subject]]), wanted)

    def _parameter_hits(self, target: bytes, subjects: AbstractSet[Subject]) -> ParameterHits | None:
        """Ask what is there of some parameters, in the order of their names; `None` where nobody can know."""
        names = {subject.removeprefix(QUERY) for subject in subjects}
        readings = parameter_readings(target, names)
        if readings is None:
            return None
        return tuple(
            (subject, self._parameters[subject].match_all(readings[name]))
            for name in sorted(readings)
            for subject in (parameter_subject(name),)
        )

    def _verdict(self, plan: _Plan, facts: RequestFacts) -> Verdict:
        vary: dict[str, str] = {}
        hits: list[CompiledRule] = []
        is_decided = False
        for rule in plan.rules:
            if not rule.may_match(facts):
                continue
            if not rule.observes:
                for name in rule.reads:
                    vary.setdefault(name.lower(), name)
            if not is_decided and rule.takes(facts):
                hits.append(rule)
                is_decided = not rule.observes and not rule.match.response and not rule.is_open(facts)
            if is_decided and rule.is_unconditional and not rule.observes:
                break  # no later rule can apply to this method and path, so none adds to `Vary`
        names = tuple(vary.values())
        outcomes = [rule.outcome(facts, names) for rule in hits]
        if not outcomes or outcomes[-1].is_open or outcomes[-1].observes:
            outcomes.append(Outcome(None, PASS, treatment(PASS, names) if names else UNTOUCHED))
        return Verdict(
            outcomes=tuple(outcomes),
            vary=names,
            strips_conditionals=any(o.policy.conditionals == "strip" and not o.observes for o in outcomes),
            settled=None if any(outcome.is_open for outcome in outcomes) else resolve(outcomes, None),
        )


def _patterns_of(rules: Iterable[CompiledRule]) -> dict[Subject, set[Pattern]]:
    """Collect what rules ask of fields."""
    wanted: dict[Subject, set[Pattern]] = {}
    for rule in rules:
        for key in rule.keys:
            if key.stage == "rest":
                for subject, patterns in key.patterns.items():
                    wanted.setdefault(subject, set()).update(patterns)
    return wanted


def _size(values: Values) -> int:
    return sum([len(line) for sent in values if sent is not None for line in lines_of(sent)])


@dataclass(slots=True)
class _Plan:
    """What the path alone tells: shared by all paths that the same patterns match."""

    hits: Hits
    rules: tuple[CompiledRule, ...]
    parameters: frozenset[Subject]
    verdicts: dict[VerdictKey, Verdict] = field(default_factory=dict)
