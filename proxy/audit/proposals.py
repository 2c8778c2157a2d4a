"""Writes a rule for each route that needs one, and tries it on the evidence before anybody sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.audit.observation import Asker, Observation, first_value
from proxy.audit.permission import permission_of
from proxy.audit.route_evidence import Sample
from proxy.audit.routes import ANY, DEEP, example_of, to_path
from proxy.audit.verdicts import Finding, exposed_askers
from proxy.message.errors import MessageError
from proxy.message.fields import Field
from proxy.rules.loading.diagnostics import RulesError
from proxy.rules.loading.loader import RulesFile, loads
from proxy.rules.tools import rule_tests
from proxy.rules.tools.dry_run import Trial, TrialRequest, TrialResponse, run_trial

REQUEST_FIELDS: Final[dict[Asker, tuple[Field, ...]]] = {
    "xhr": ((b"X-Requested-With", b"XMLHttpRequest"),),
    "fetch": ((b"Sec-Fetch-Dest", b"empty"),),
    "page": ((b"Sec-Fetch-Dest", b"document"),),
    "other": (),
}
_SCRIPTS: Final[frozenset[Asker]] = frozenset(("xhr", "fetch"))
_SOURCE: Final = "the proposed rules"
# Directives that may be copied into a proposed test: the app cannot have put a secret into them.
_PLAIN_CACHE_CONTROL: Final = re.compile(
    r"(?:(?:max-age|s-maxage|stale-while-revalidate|stale-if-error)=[0-9]{1,10}"
    r"|public|private|no-cache|must-revalidate|proxy-revalidate|immutable|no-transform|, *)+"
)
# Tests written for one rule: files of a directory are alike, and all are tried before the rule is shown.
_MAX_TESTS: Final = 5
_FIRST_WORD: Final = {"strict": "no-store, *", "revalidate": "no-cache, *"}
# Of the 64 that a rule's name may have: `audit-` comes before, and a number may come after.
_MAX_NAME: Final = 50
_HEADER: Final = """\
# Rules that the audit proposes. Append the members of `rules` and of `tests` to those of your file, or use this
# one as it is. `mode: observe` in a rule counts and logs what it would change, and changes nothing.
"""


@dataclass(slots=True)
class Proposal:
    """A rule for one route, or for the files of a directory; `/a` and `/a/` share one, because an enforcing rule takes both.

    Attributes:
        findings: worst first.
        place: the route that it is named by, or the directory.
        is_whole: all that was seen in this directory is to be revalidated, so that one glob stands for it.
        unless: routes that are fine and that its globs would take too.
    """

    findings: tuple[Finding, ...]
    name: str
    place: tuple[str, ...]
    is_whole: bool = False
    unless: list[str] = field(default_factory=list)

    @property
    def routes(self) -> list[tuple[str, ...]]:
        return [finding.route for finding in self.findings]

    @property
    def is_of_files(self) -> bool:
        return all(finding.is_static for finding in self.findings)

    @property
    def globs(self) -> list[str]:
        """Return what the rule's `paths` name."""
        if self.is_whole:
            return [to_path((*self.place[1:], DEEP))]
        return [to_path(route[1:]) for route in self.routes]

    @property
    def policy(self) -> str:
        """Files that look static may be kept, if caches ask each time."""
        return "revalidate" if self.is_of_files else "strict"

    def rule_yaml(self) -> str:
        """Write the rule as a member of `rules`."""
        return "\n".join(self._rule_lines())

    def tests_yaml(self) -> str:
        """Write one test for each route and kind of client that gets reusable answers; of many files, for some."""
        return "\n".join(line for sample in self.tested() for line in self._test_lines(*sample))

    def tested(self) -> list[tuple[Finding, Asker, Sample]]:
        """Return the samples that the rule's tests are made of."""
        return self.samples()[:_MAX_TESTS]

    def samples(self) -> list[tuple[Finding, Asker, Sample]]:
        """Return the evidence that the rule must protect."""
        return [
            (finding, asker, sample)
            for finding in self.findings
            for (asker, is_reusable), sample in sorted(finding.evidence.samples.items())
            if (is_reusable and asker in exposed_askers(finding.evidence)) or finding.evidence.disguise
        ]

    def _rule_lines(self) -> Iterator[str]:
        method = self.findings[0].route[0]
        yield f"  - name: {self.name}"
        files = (
            f"{len(self.findings)} files, the worst: " if len(self.findings) > 1 and self.is_of_files else ""
        )
        yield f"    because: {_quoted(files + self.findings[0].why)}"
        yield "    match:"
        if method != ANY:
            yield f"      methods: [{_quoted(method)}]"
        yield f"      paths: [{_list(self.globs)}]"
        if {asker for _, asker, _ in self.samples()} <= _SCRIPTS and self.policy == "strict":
            yield "      script_request: true"
        if self.unless:
            yield "    unless:"
            yield f"      paths: [{_list(self.unless)}]"
        yield f"    policy: {self.policy}"

    def _test_lines(self, finding: Finding, asker: Asker, sample: Sample) -> Iterator[str]:
        method = finding.route[0]
        request = f"path: {_quoted(example_of(finding.route[1:]))}"
        if method not in ("GET", ANY):
            request = f"method: {_quoted(method)}, {request}"
        if REQUEST_FIELDS[asker]:
            (name, value), *_ = REQUEST_FIELDS[asker]
            request += f", headers: {{{name.decode()}: {value.decode()}}}"
        yield f"  - request: {{{request}}}"
        said = (first_value(sample.fields, b"cache-control") or b"").decode("latin-1")
        if said and _PLAIN_CACHE_CONTROL.fullmatch(said):
            yield f"    response: {{headers: {{Cache-Control: {_quoted(said)}}}}}"
        promise = _quoted(_FIRST_WORD[self.policy])
        yield f"    expect: {{rule: {self.name}, headers: {{Cache-Control: {promise}}}}}"


@dataclass(frozen=True, slots=True)
class Proposals:
    """All rules that are proposed, those for the most special routes first.

    Attributes:
        refused: routes for which no rule could be made, with the reason.
    """

    proposals: tuple[Proposal, ...]
    refused: tuple[tuple[tuple[str, ...], str], ...] = ()

    def to_yaml(self) -> str:
        """Write a rules file; empty if nothing is proposed."""
        return _HEADER + _file(self.proposals) if self.proposals else ""

    def by_route(self) -> dict[tuple[str, ...], str]:
        """Return the YAML of the rule for each route that has one."""
        return {route: proposal.rule_yaml() for proposal in self.proposals for route in proposal.routes}


def as_observed(rules: str) -> str:
    """Return rules that `Proposals.to_yaml` has written in mode `observe`; their tests do not hold then."""
    return re.sub(r"^(    policy: .+)$", r"\1\n    mode: observe", rules, flags=re.MULTILINE)


def propose(findings: Sequence[Finding]) -> Proposals:
    """Make a rule for every finding that needs one, and try all of them together on the evidence.

    What is returned has been loaded and tested; it protects every sample of the evidence, and decides no
    answer of a route that is fine.
    """
    made = sorted(_group(findings), key=lambda proposal: _generality(proposal.place))
    fine = [finding for finding in findings if finding.verdict == "fine"]
    refused: dict[tuple[str, ...], str] = {}
    while made:
        reasons = _try_out(made, fine)
        if isinstance(reasons, RulesFile):
            return Proposals(tuple(made), tuple(refused.items()))
        for proposal in made:
            if proposal.routes[0] in reasons:
                refused |= dict.fromkeys(proposal.routes, reasons[proposal.routes[0]])
        made = [proposal for proposal in made if proposal.routes[0] not in reasons]
    return Proposals((), tuple(refused.items()))


def _group(findings: Sequence[Finding]) -> list[Proposal]:
    """Put together what one rule cures: a route with and without a slash at its end, and the files of a directory."""
    names = _Names()
    of_others = _places_of_others(findings)
    groups: dict[tuple[bool, tuple[str, ...]], list[Finding]] = {}
    for finding in findings:
        if finding.needs_rule:
            directory, route = _directory_of(finding, of_others), finding.route
            place = directory or (route[:-1] if route[-1] == "" else route)
            groups.setdefault((directory is not None, place), []).append(finding)
    made = []
    for (are_files, shared), group in groups.items():
        place = shared if len(group) > 1 else group[0].route
        is_whole = are_files and len(group) > 1 and place not in of_others
        made.append(Proposal(tuple(group), names.make(place), place, is_whole))
    return made


def _places_of_others(findings: Iterable[Finding]) -> set[tuple[str, ...]]:
    """Return every route and directory that is, or has below it, something else than static files that need a rule."""
    others = (finding.route for finding in findings if not (finding.needs_rule and finding.is_static))
    return {route[:length] for route in others for length in range(1, len(route) + 1)}


def _directory_of(finding: Finding, of_others: set[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the directory whose files share a rule with this one; `None` for what is no static file.

    It is the topmost directory with nothing else in it, never the root; else the file's own, and the rule names each file.
    """
    route = finding.route
    if not finding.is_static:
        return None
    directories = [route[:length] for length in range(2, len(route))]
    whole = next((place for place in directories if place not in of_others), None)
    is_plain = ANY not in "".join(route[1:])
    return whole or (directories[-1] if directories and is_plain else None)


def _try_out(made: list[Proposal], fine: Sequence[Finding]) -> RulesFile | dict[tuple[str, ...], str]:
    """Return the rules as a file that does what it must, or the routes whose rules do not, with the reasons."""
    loaded = _load(made)
    if not isinstance(loaded, RulesFile):
        return loaded
    if _except_fine_routes(loaded, made, fine):
        loaded = _load(made)
        if not isinstance(loaded, RulesFile):
            return loaded
    failures = {
        made[index].routes[0]: "it does not pass its own test" for index in _failed_tests(loaded, made)
    }
    for proposal in made:
        if not _protects_all(loaded, proposal):
            failures[proposal.routes[0]] = "it leaves some of the evidence reusable"
    by_name = {proposal.name: proposal for proposal in made}
    for trial in _trials(loaded, fine):
        if trial.resolution.rule is not None:
            failures[by_name[trial.resolution.rule.name].routes[0]] = "it would take a route that is fine"
    return failures or loaded


def _load(made: Sequence[Proposal]) -> RulesFile | dict[tuple[str, ...], str]:
    try:
        return loads(_file(made).encode(), _SOURCE)
    except RulesError:
        return {p.routes[0]: text for p in made if (text := _mistake_of(p))}


def _mistake_of(proposal: Proposal) -> str:
    try:
        loads(_file([proposal]).encode(), _SOURCE)
    except RulesError as error:
        return str(error)
    return ""


def _except_fine_routes(loaded: RulesFile, made: Iterable[Proposal], fine: Iterable[Finding]) -> bool:
    """Add routes that are fine to `unless` of the rules that would take them; return whether there were any."""
    by_name = {proposal.name: proposal for proposal in made}
    is_changed = False
    for finding in fine:
        for trial in _trials(loaded, [finding]):
            rule = trial.resolution.rule
            glob = to_path(finding.route[1:])
            if rule is not None and glob not in by_name[rule.name].unless:
                by_name[rule.name].unless.append(glob)
                is_changed = True
    return is_changed


def _failed_tests(loaded: RulesFile, made: Sequence[Proposal]) -> set[int]:
    if not rule_tests.run(loaded):
        return set()
    owners = [index for index, proposal in enumerate(made) for _ in proposal.tested()]
    return {
        owners[case.index]
        for case in loaded.cases
        if _name_of(run_trial(loaded.ruleset, case.request, case.response)) != case.expect.rule
    }


def _name_of(trial: Trial) -> str | None:
    return None if trial.resolution.rule is None else trial.resolution.rule.name


def _protects_all(loaded: RulesFile, proposal: Proposal) -> bool:
    for finding, asker, sample in proposal.samples():
        method = _method_of(finding)
        request = TrialRequest(method, sample.path, REQUEST_FIELDS[asker])
        try:
            trial = run_trial(loaded.ruleset, request, TrialResponse(sample.status, sample.fields))
        except MessageError:
            continue  # the gateway forwards no such request
        answer = Observation(0, method, b"", sample.path, trial.status, request.fields, trial.fields)
        if permission_of(answer).may_be_reused:
            return False
    return True


def _trials(loaded: RulesFile, findings: Iterable[Finding]) -> Iterator[Trial]:
    for finding in findings:
        for (asker, _), sample in finding.evidence.samples.items():
            request = TrialRequest(_method_of(finding), sample.path, REQUEST_FIELDS[asker])
            try:
                yield run_trial(loaded.ruleset, request, TrialResponse(sample.status, sample.fields))
            except MessageError:
                continue


def _method_of(finding: Finding) -> str:
    return "GET" if finding.route[0] == ANY else finding.route[0]


def _file(made: Iterable[Proposal]) -> str:
    rules = [proposal.rule_yaml() for proposal in made]
    tests = [text for proposal in made if (text := proposal.tests_yaml())]
    parts = ["version: 1", "", "rules:", "\n\n".join(rules)]
    if tests:
        parts += ["", "tests:", "\n".join(tests)]
    return "\n".join(parts) + "\n"


def _generality(route: tuple[str, ...]) -> tuple[int, int, tuple[str, ...]]:
    """Order routes so that a rule never stands before a more special one."""
    wild = sum(segment.count(ANY) * (10 if segment == "**" else 1) for segment in route[1:])
    return wild, -len(route), route


class _Names:
    """Names of rules: made of the route, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def make(self, route: tuple[str, ...]) -> str:
        words = re.findall(r"[A-Za-z0-9]+", " ".join(route[1:]).replace(ANY, " any "))
        if route[0] not in ("GET", ANY):
            words.insert(0, route[0])
        base = "audit-" + ("-".join(words).lower()[:_MAX_NAME].strip("-") or "root")
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}-{number}"
        self._taken.add(name)
        return name


def _list(texts: Iterable[str]) -> str:
    return ", ".join(map(_quoted, texts))


def _quoted(text: str) -> str:
    """Write a YAML string in double quotes; JSON's are such."""
    return json.dumps(text, ensure_ascii=False)
