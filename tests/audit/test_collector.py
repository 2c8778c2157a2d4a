"""A worker's collector: what is noted while requests wait, and what is made of it on the tick."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tracemalloc

import pytest

from proxy.audit import report_call, reporting
from proxy.audit.collector import MAX_PER_TICK, MAX_PROTECTED_PER_TICK, NOT_SEEN, TICK_S, Collector
from proxy.audit.evidence import Evidence
from proxy.audit.report import report_on, to_json
from proxy.audit.verdicts import judge
from tests.audit.answers import XHR, answer, cookie, evidence_of


def take(collector: Collector, target: str, at_s: float = 0, content: bytes | None = b"1", **changes) -> None:
    arguments = {
        "at_s": at_s,
        "method": "GET",
        "authority": b"app",
        "target": target.encode(),
        "status": 200,
        "lines": [b"X-Requested-With: XMLHttpRequest", b""],
        "fields": [(b"Cache-Control", b"max-age=60")],
        "checksum": NOT_SEEN if content is None else sum(content),
        "size": len(content or b""),
        **changes,
    }
    collector.take(**arguments)


def take_protected(collector: Collector, target: str, method: str = "GET") -> None:
    if not collector.has_counted_protected(method, target.encode()):
        collector.take_protected(0, method, b"app", target.encode(), 200, [], [])


def work_all(collector: Collector) -> Evidence:
    collector.tick(math.inf)
    while collector.work():
        pass
    return collector.evidence


def test_nothing_is_worked_on_before_the_tick():
    collector = Collector(b"secret")
    take(collector, "/a")
    assert not collector.work()
    assert collector.evidence.responses == 0
    assert work_all(collector).responses == 1


def test_ticks_that_come_sooner_than_a_second_do_nothing():
    collector = Collector(b"secret")
    take(collector, "/a")
    assert collector.tick(5)
    take(collector, "/b")
    assert not collector.tick(5 + TICK_S / 2)
    assert collector.tick(5 + TICK_S)


def test_equal_answers_are_looked_at_once_and_counted_all():
    collector = Collector(b"secret")
    for _ in range(1000):
        take(collector, "/a")
    ((_, route),) = work_all(collector).routes.items()
    assert (route.responses, route.reusable, route.askers["xhr"]) == (1000, 1000, 1000)
    assert [key.answers for key in route.keys.values()] == [1]


def test_change_between_two_ticks_is_seen():
    collector = Collector(b"secret")
    take(collector, "/a", 1, b"old")
    take(collector, "/a", 2, b"new")
    (finding,) = judge(work_all(collector))
    assert finding.verdict == "stale"


def test_content_that_was_not_seen_is_not_compared():
    collector = Collector(b"secret")
    take(collector, "/a", 1, None)
    take(collector, "/a", 2, b"new")
    (finding,) = judge(work_all(collector))
    assert finding.verdict == "possible"


def test_what_a_rule_protects_is_counted_and_called_protected():
    collector = Collector(b"secret")
    for _ in range(5):
        take_protected(collector, "/a")
        take_protected(collector, "/a", "POST")
    findings = judge(work_all(collector))
    assert {(f.route, f.verdict) for f in findings} == {
        (("GET", "a"), "protected"),
        (("POST", "a"), "protected"),
    }
    assert collector.evidence.responses == 10


def test_protected_answers_are_marked_with_the_rules_of_their_time():
    """Also those that wait for the tick while the rules change."""
    collector = Collector(b"secret")
    for at_s, digest in ((0, "old"), (5, "new")):
        collector.use_rules(at_s, digest)
    for at_s, target in ((4, "/a"), (5, "/b")):
        collector.take_protected(at_s, "GET", b"app", target.encode(), 200, [], [])
    routes = {route: known.protected_by for route, known in work_all(collector).routes.items()}
    assert routes == {("GET", "a"): {"old": 4}, ("GET", "b"): {"new": 5}}


def test_too_many_different_protected_answers_are_only_counted():
    collector = Collector(b"secret")
    for number in range(MAX_PROTECTED_PER_TICK + 40):
        take_protected(collector, f"/a?{number}")
    evidence = work_all(collector)
    assert (evidence.responses, evidence.unexamined) == (MAX_PROTECTED_PER_TICK + 40, 40)


def test_too_many_different_answers_are_only_counted_and_that_is_said():
    collector = Collector(b"secret")
    for number in range(MAX_PER_TICK + 40):
        take(collector, f"/a?{number}")
    take(collector, "/a?0")
    evidence = work_all(collector)
    assert (evidence.responses, evidence.unexamined) == (MAX_PER_TICK + 41, 40)
    assert report_on(evidence).notes == (
        "Answers that were only counted, as there were too many in a second: 40.",
    )


def test_tick_that_comes_before_the_work_is_done_keeps_the_queue_bounded():
    collector = Collector(b"secret")
    for round_ in range(3):
        for number in range(MAX_PER_TICK):
            take(collector, f"/{'abc'[round_]}?{number}")
        collector.tick(round_ * TICK_S)
        collector.work()
    evidence = work_all(collector)
    assert evidence.responses == 3 * MAX_PER_TICK
    assert 0 < evidence.unexamined < 3 * MAX_PER_TICK


@pytest.mark.parametrize(
    ("target", "line"), [("/a?{}", b"Cookie: " + b"x" * 60_000), ("/a?{}" + "x" * 60_000, b"")]
)
def test_what_waits_for_the_tick_is_bounded_in_bytes(target, line):
    collector = Collector(b"secret")
    tracemalloc.start()
    try:
        for number in range(MAX_PER_TICK + 40):
            size = 60_000 * number // MAX_PER_TICK
            take(collector, target.format(number)[: size + 10], lines=[line[:size]])
            take_protected(collector, target.format(number)[: size + 10], "POST")
        waiting, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert waiting < 2 << 20


def test_reset_begins_anew():
    collector = Collector(b"secret")
    take(collector, "/a")
    collector.tick(0)
    take(collector, "/b")
    collector.reset()
    assert work_all(collector).responses == 0


def test_frames_carry_everything():
    evidence = evidence_of(
        *(
            answer(n, f"/users/User{n}x/{n % 3}?{n}", b"%d" % n, XHR, cookie("a"), cache_control="max-age=60")
            for n in range(90)
        ),
        *(answer(n, "/" + "abcdefgh"[n % 8], b"%d" % n, cache_control="max-age=60") for n in range(40)),
    )
    frames = list(evidence.frames())
    copy = Evidence.from_frames(frames)
    assert to_json(report_on(copy)) == to_json(report_on(evidence))
    assert list(copy.frames()) == frames
    more = evidence_of(answer(0, "/users/Another/1", b"", XHR))
    copy.merge(more)
    assert len(copy.routes) == len(evidence.routes), "what was folded stays folded"


def test_report_is_made_of_all_workers_in_a_process_of_its_own():
    workers = [
        list(evidence_of(answer(n, "/a", b"%d" % n, XHR, cache_control="max-age=60")).frames())
        for n in (1, 2)
    ]
    made = subprocess.run(
        [sys.executable, "-m", "proxy.audit.reporting"],
        input=report_call.encode(workers),
        capture_output=True,
        check=True,
    )
    report = json.loads(made.stdout)
    assert [route["verdict"] for route in report["routes"]] == ["stale"]
    assert report["responses"] == 2


def test_report_of_nothing_is_a_report(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(report_call.encode([]))))
    monkeypatch.setattr("os.nice", lambda _: 0)
    reporting.main()
    assert json.loads(capsys.readouterr().out) == {
        "since": None,
        "responses": 0,
        "routes_dropped": 0,
        "notes": [],
        "routes": [],
        "rules": "",
    }


def test_304_that_passed_the_gateway_is_no_other_content():
    """The gateway sees it end without content, and says so by a checksum of nothing."""
    collector = Collector(b"secret")
    etag = [(b"ETag", b'"1"')]
    take(collector, "/app.js", 1, b"content", fields=etag)
    take(collector, "/app.js", 2, b"", status=304, fields=etag)
    (finding,) = judge(work_all(collector))
    assert finding.verdict == "possible"


def test_route_for_which_no_rule_can_be_made_is_told(monkeypatch):
    monkeypatch.setattr("proxy.audit.proposals._MAX_NAME", 100)
    report = report_on(evidence_of(answer(0, "/" + "very/" * 11 + "long")))
    (note,) = to_json(report)["notes"]
    assert note.startswith("No rule could be made for GET /very/")
    assert "up to 64 letters" in note
