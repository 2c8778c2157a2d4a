"""Laws of the audit: nothing secret is kept, memory is bounded, and workers agree."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.audit.evidence import KEYS_PER_ROUTE, MAX_SAMPLED_KEYS, Evidence
from proxy.audit.observation import Observation
from proxy.audit.permission import permission_of
from proxy.audit.proposals import REQUEST_FIELDS
from proxy.audit.report import report_on, to_json, to_text
from proxy.audit.routes import MAX_ROUTES
from proxy.audit.versions import VERSIONS_PER_KEY
from proxy.rules.loading.loader import loads
from proxy.rules.tools import lint, rule_tests
from proxy.rules.tools.dry_run import TrialRequest, TrialResponse, run_trial
from tests.audit.answers import FETCH, PAGE, XHR, answer, cookie, evidence_of

MIB = 1 << 20

controls = st.sampled_from(
    [
        "max-age=60",
        "private, max-age=5",
        "s-maxage=30",
        "no-store",
        "no-cache",
        "public",
        "max-age=60, immutable",
        "",
    ]
)
PATHS = (
    "/",
    "/a",
    "/a/",
    "/items/1",
    "/items/22",
    "/items/new",
    "/me",
    "/app.js",
    "/app.3f2a9c81.js",
    "/me/x.css",
    "/a.json",
    "/static/a.js",
    "/static/b.js",
    "/static/c/d.js",
    "/static/c/e.js",
    "/static/c",
    f"/a/{'long-path/' * 12}end",
)
askers = st.sampled_from([(), (XHR,), (FETCH,), (PAGE,)])
kinds = st.sampled_from(["application/json", "text/html", "text/javascript", "image/png", ""])


@st.composite
def answers(draw, paths: st.SearchStrategy[str]) -> Observation:
    status = draw(st.sampled_from([200, 200, 200, 200, 206, 301, 302, 304, 404, 500]))
    content = draw(st.sampled_from([b"1", b"2", b"3", None])) if status == 200 else None
    fields = {"etag": f'"{draw(st.integers(1, 3))}"'} if draw(st.booleans()) else {}
    if control := draw(controls):
        fields["cache_control"] = control
    if draw(st.booleans()):
        fields["vary"] = draw(st.sampled_from(["Cookie", "Accept", "*"]))
    sent = [*draw(askers), *draw(st.sampled_from([(), (cookie("a"),), (cookie("b"),)]))]
    return answer(
        draw(st.integers(0, 200)),
        draw(paths),
        content,
        *sent,
        method=draw(st.sampled_from(["GET", "GET", "GET", "HEAD", "POST"])),
        status=status,
        kind=draw(kinds),
        protected=draw(st.sampled_from([False, False, False, True])),
        rules=draw(st.sampled_from(["", "one", "two"])),
        **fields,
    )


@st.composite
def streams_of(draw, max_size: int) -> list[Observation]:
    """Answers of few paths: what is asked for once proves nothing."""
    few = draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=5, unique=True))
    return draw(st.lists(answers(st.sampled_from(few)), max_size=max_size))


streams = streams_of(30)


def by_route(report: dict[str, Any]) -> dict[str, Any]:
    return {f"{route['method']} {route['route']}": route for route in report["routes"]}


@given(streams, st.integers(2, 4))
def test_report_is_the_same_whether_one_worker_saw_the_stream_or_several(stream, workers):
    one = evidence_of(*stream)
    merged, *others = (
        pickle.loads(pickle.dumps(evidence_of(*stream[start::workers]))) for start in range(workers)
    )
    for other in others:
        merged.merge(other)
    assert to_json(report_on(merged)) == to_json(report_on(one))


def test_workers_keep_the_same_cache_keys_where_not_all_can_be_kept():
    rng = random.Random(1)
    stream = [
        answer(
            n, f"/{'abc'[n % 3]}?{rng.randrange(500)}", b"%d" % rng.randrange(2), cache_control="max-age=60"
        )
        for n in range(3000)
    ]
    bounds = {"max_sampled_keys": 64, "keys_per_route": 2}
    one = evidence_of(*stream, **bounds)
    merged, *others = (evidence_of(*stream[start::4], **bounds) for start in range(4))
    for other in others:
        merged.merge(other)

    def keys(evidence: Evidence) -> list[list[int]]:
        return [sorted(route.keys) for _, route in evidence.routes.items()]

    assert keys(one) == keys(merged)
    assert 32 < sum(map(len, keys(one))) <= 64 + 3 * 2


SECRET = "s3cr3t" + "Zq9" * 5
FORGOTTEN = ("cookie", "authorization", "content", "query", "etag", "set-cookie", "params", "referer")
KEPT_FOR_THE_DRY_RUN = ("path", "cache-control", "content-disposition", "location")


@given(streams, st.sampled_from(FORGOTTEN + KEPT_FOR_THE_DRY_RUN))
def test_nothing_secret_is_in_any_report(stream, place):
    """Not as it was sent, and most of it not in the evidence that workers hand over either."""
    for number, seen in enumerate(stream):
        stream[number] = marked(seen, place)
    evidence = evidence_of(*stream)
    if place in FORGOTTEN:
        assert SECRET.encode() not in pickle.dumps(evidence)
    report = to_json(report_on(evidence))
    assert SECRET not in json.dumps(report) + to_text(report)


def marked(seen: Observation, place: str) -> Observation:
    request, response, target = list(seen.request_fields), list(seen.response_fields), seen.target
    mark, content = SECRET.encode(), seen.content
    match place:
        case "cookie":
            request.append((b"Cookie", b"session=" + mark))
        case "authorization":
            request.append((b"Authorization", b"Bearer " + mark))
        case "content":
            content = answer(0, "/", mark * 20).content
        case "query":
            target += b"?token=" + mark
        case "etag":
            response.append((b"ETag", b'"' + mark + b'"'))
        case "set-cookie":
            response.append((b"Set-Cookie", b"session=" + mark))
        case "params":
            target += b";jsessionid=" + mark
        case "path":
            target += b"/" + mark
        case "referer":
            request.append((b"Referer", b"http://app/?token=" + mark))
        case "cache-control":
            response.insert(0, (b"Cache-Control", b"max-age=60, x=" + mark))
        case "content-disposition":
            response.append((b"Content-Disposition", b"attachment; filename=" + mark))
        case "location":
            response.append((b"Location", b"/" + mark))
    return Observation(
        seen.at_s,
        seen.method,
        seen.authority,
        target,
        seen.status,
        request,
        response,
        content,
        None,
        seen.is_protected,
    )


@given(streams)
def test_proposed_rules_protect_all_the_evidence_and_nothing_that_is_fine(stream):
    report = report_on(evidence_of(*stream))
    text = report.proposals.to_yaml()
    assert report.proposals.refused == ()
    wanting = {f.route for f in report.findings if f.needs_rule}
    assert {route for p in report.proposals.proposals for route in p.routes} == wanting
    if not text:
        return
    rules = loads(text.encode(), "proposed")
    assert rule_tests.run(rules) == []
    assert {warning.code for warning in lint.lint(rules)} <= {"post-navigation", "matches-everything"}
    verdicts = {finding.route: finding for finding in report.findings}
    for seen in stream:
        found = next(f for f in verdicts.values() if belongs(seen, f.route))
        if seen.is_protected:
            continue
        trial = run_trial(
            rules.ruleset,
            TrialRequest(seen.method, seen.target, tuple(seen.request_fields)),
            TrialResponse(seen.status, tuple(seen.response_fields)),
        )
        after = Observation(
            seen.at_s, seen.method, b"app", seen.target, trial.status, seen.request_fields, trial.fields
        )
        if found.verdict == "fine":
            assert trial.resolution.rule is None
        elif found.needs_rule and is_exposed(found, seen):
            assert not permission_of(after).may_be_reused


def belongs(seen: Observation, route: tuple[str, ...]) -> bool:
    method = "GET" if seen.method == "HEAD" else seen.method
    probe = evidence_of(answer(0, seen.target.decode(), method=method))
    ((only, _),) = probe.routes.items()
    return only == route


def is_exposed(finding, seen: Observation) -> bool:
    """Whether this answer is among the evidence: a rule that came later may have protected those who asked so."""
    sent = {name for name, _ in seen.request_fields} & {b"X-Requested-With", b"Sec-Fetch-Dest"}
    asker = next(
        asker
        for asker, fields in REQUEST_FIELDS.items()
        if {name for name, _ in fields} == sent and (not fields or fields[0] in seen.request_fields)
    )
    return (
        permission_of(seen).may_be_reused
        and (asker, True) in finding.evidence.samples
        and ((times := finding.evidence.latest[asker])[0] > times[1])
    )


def flood(number: int) -> Iterator[Observation]:
    """So many different targets of many kinds, as a crawler or an attacker makes them."""
    rng = random.Random(2)
    for n in range(number):
        shape = n % 5
        target = (
            f"/items/{n}",
            f"/p{rng.randrange(40)}/Q{rng.randrange(400)}x/w?x={n}",
            f"/one?bust={n}",
            "/" + "/".join(f"S{rng.randrange(10**6)}" for _ in range(12)) + f"?{n}",
            f"/words/{''.join(rng.choice('abcdefgh') for _ in range(8))}?{n}",
        )[shape]
        yield answer(
            n,
            target,
            b"%d" % n,
            XHR,
            cookie(str(n)),
            status=404 if n % 7 == 0 else 200,
            cache_control="max-age=9",
            etag=f'"{n}"',
        )


@pytest.mark.parametrize(
    "targets", [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_memory_is_bounded_with_ever_new_targets(targets):
    assert_bounded(flood(targets), targets)


def test_memory_is_bounded_with_as_many_routes_keys_and_versions_as_there_may_be():
    seen = (
        answer(10 * version, f"/{a}w/{b}x?k={key}", b"%d" % version, XHR, cookie(str(version % 3)))
        for a, b in itertools.product("abcdefghijklmnopqrstuvw", repeat=2)
        for key in range(5)
        for version in range(VERSIONS_PER_KEY + 1)
    )
    evidence = assert_bounded(seen, 23 * 23 * 5 * (VERSIONS_PER_KEY + 1))
    assert len(evidence.routes) == MAX_ROUTES


def assert_bounded(answers: Iterable[Observation], number: int) -> Evidence:
    peak = 0
    tracemalloc.start()
    try:
        evidence = Evidence(b"secret")
        before, _ = tracemalloc.get_traced_memory()
        for count, seen in enumerate(answers):
            evidence.add(seen)
            if count % 1000 == 0:
                peak = max(peak, tracemalloc.get_traced_memory()[0] - before)
        peak = max(peak, tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    print(f"{number} answers: {peak / MIB:.1f} MiB")
    assert peak < 8 * MIB
    assert evidence.responses == number
    assert len(evidence.routes) <= MAX_ROUTES
    keys = sum(len(route.keys) for _, route in evidence.routes.items())
    assert MAX_SAMPLED_KEYS / 4 < keys <= MAX_SAMPLED_KEYS + KEYS_PER_ROUTE * MAX_ROUTES == 4000
    return evidence


@settings(max_examples=50)
@given(streams)
def test_evidence_that_changes_on_every_answer_stays_bounded_too(stream):
    evidence = evidence_of(*stream)
    for _, route in evidence.routes.items():
        assert len(route.types) <= 4
        assert len(route.samples) <= 8
