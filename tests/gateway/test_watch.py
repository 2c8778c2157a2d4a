"""What is kept of exchanges while somebody watches: the heads before and after, bounded, and nothing for nobody."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from proxy.gateway import clock, watch
from proxy.gateway.failures import UPSTREAM_TIMEOUT
from proxy.gateway.record import Record
from proxy.gateway.recorder import Recorder
from proxy.gateway.watch import KEPT, WATCHED_S, Watch
from proxy.message.request import KeepingTable, RequestTable
from tests.gateway.fakes import broken, request, response
from tests.support.gateway import Bench, bench
from tests.support.peer import XHR_LINE
from tests.support.upstream import answering

NOW_S = 1000.0
CACHED = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\nSet-Cookie: a=s3cr3t\r\n\r\nok"
)


@pytest.fixture(autouse=True)
def fast_clock(monkeypatch):
    monkeypatch.setattr(clock, "TICK_S", 0.01)


async def watched(b: Bench) -> list[dict]:
    return [json.loads(row) for row in await b.gateway.watch()]


async def one_watched(b: Bench, data: bytes) -> dict:
    """What is kept of one exchange."""
    assert await watched(b) == []
    await b.exchange(data)
    await b.settled()
    (row,) = await watched(b)
    return row


class TestExchange:
    async def test_heads_are_those_of_the_wire_on_both_sides(self):
        """What the app got and what the client got are the bytes that they read."""
        sent = (
            b'GET /a?n=1 HTTP/1.1\r\nHost: app\r\nConnection: close\r\nX_Y: 1\r\nIf-None-Match: "v"\r\n'
            + XHR_LINE
            + b"\r\n"
        )
        async with bench(answering(CACHED)) as b:
            assert await watched(b) == []
            answer = await b.exchange(sent)
            await b.settled()
            (row,) = await watched(b)
            assert (row["method"], row["target"], row["status"], row["upstream_status"]) == (
                "GET",
                "/a?n=1",
                200,
                200,
            )
            assert (row["rule"], row["policy"], row["error"]) == ("ajax", "strict", None)
            assert row["duration_s"] > 0
            assert row["request"]["received"] == lines(sent)
            assert row["request"]["forwarded"] == lines(b.recorder.heads[0])
            assert not [
                line for line in row["request"]["forwarded"] if line.startswith(("X_Y", "If-None-Match"))
            ]
            assert row["response"]["received"] == lines(CACHED.replace(b"a=s3cr3t", b"(hidden)"))
            assert row["response"]["sent"] == lines(answer.head.replace(b"a=s3cr3t", b"(hidden)"))
            assert any("no-store" in line for line in row["response"]["sent"])

    async def test_request_that_is_asked_twice_shows_what_the_app_got_last(self):
        """Its conditions were taken off only for the second time."""
        rules = rules_by_type()
        changed = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        async with bench(answering(b"HTTP/1.1 304 Not Modified\r\n\r\n", changed), rules=rules) as b:
            row = await one_watched(
                b, b'GET /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\nIf-None-Match: "v"\r\n\r\n'
            )
            assert len(b.recorder.heads) == 2
            assert row["request"]["forwarded"] == lines(b.recorder.heads[1])
            assert 'If-None-Match: "v"' in row["request"]["received"]
            assert (row["status"], row["rule"]) == (200, "json")

    async def test_app_that_cannot_be_reached_got_nothing(self):
        async with bench(upstream="http://127.0.0.1:1") as b:
            row = await one_watched(b, b"GET /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            assert (row["status"], row["upstream_status"], row["error"]) == (502, None, "connect_refused")
            assert row["request"]["forwarded"] is None
            assert row["response"]["received"] is None
            assert row["response"]["sent"][0] == "HTTP/1.1 502 Bad Gateway"
            assert any("no-store" in line for line in row["response"]["sent"])

    async def test_app_that_does_not_answer_got_the_request(self):
        async def silent(peer):
            await peer.read_head()
            await peer.reader.read()

        async with bench(silent, response_head_timeout_s=0.02) as b:
            row = await one_watched(b, b"GET /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            assert (row["status"], row["error"]) == (504, UPSTREAM_TIMEOUT.reason)
            assert row["request"]["forwarded"][0] == "GET /a HTTP/1.1"

    async def test_refused_request_shows_what_was_answered(self):
        async with bench() as b:
            row = await one_watched(b, b"GET /a?token=s3cr3t HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert (row["status"], row["error"], row["target"]) == (400, "bad_request", "/a?token=(hidden)")
            assert row["request"] == {"received": None, "forwarded": None}
            assert row["response"]["sent"][0] == "HTTP/1.1 400 Bad Request"

    async def test_tunnel_shows_the_answer_of_the_app(self):
        async def switching(peer):
            await peer.read_head()
            await peer.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            )

        async with bench(switching) as b:
            assert await watched(b) == []
            peer = await b.connect()
            await peer.send(b"GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            await peer.read_head()
            peer.close()
            await b.settled()
            (row,) = await watched(b)
            assert (row["status"], row["response"]["received"][0]) == (
                101,
                "HTTP/1.1 101 Switching Protocols",
            )


def rules_by_type():
    from proxy.rules.model import Rule
    from proxy.rules.policies import STRICT
    from tests.rules.making import conditions, response_keys

    return (Rule("json", STRICT, conditions(response=response_keys(content_types=("application/json",)))),)


def lines(head: bytes) -> list[str]:
    return head.partition(b"\r\n\r\n")[0].decode().split("\r\n")


class TestOthers:
    """Neither side can tell whether somebody watches."""

    @pytest.mark.parametrize(
        "start",
        [
            b"GET /a HTTP/1.1\r\nHost: app\r\n",
            b"GET http://app/a?b=1 HTTP/1.1\r\nHost: app\r\n",
            b"GET /a HTTP/1.0\r\n",
            b'HEAD /a HTTP/1.1\r\nHost: app\r\nIf-None-Match: "v;nc=0", *\r\n' + XHR_LINE,
            b"POST /a HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\nX_A: 1\r\nX-A: 2\r\nConnection: X-A, close\r\n",
            b"GET /a HTTP/1.1\r\nHost: app\r\nX-Forwarded-For: 192.0.2.1\r\nAccept:  \xe4 \r\n" + XHR_LINE,
            b"GET /a HTTP/1.1\r\nHost: app\r\nHost: other\r\n",
        ],
    )
    async def test_same_bytes_leave_to_both_sides(self, start):
        content = b"2\r\nab\r\n0\r\n\r\n" if b"chunked" in start else b""
        sent = start + (b"\r\n" if b"Connection" in start else b"Connection: close\r\n\r\n") + content
        seen = []
        async with bench(answering(CACHED)) as b:
            for is_watched in (False, True):
                if is_watched:
                    await b.gateway.watch()
                answer = await b.exchange(sent)
                await b.settled()
                seen.append((b.recorder.heads[:], b.recorder.contents[:], undated(answer.data)))
                b.recorder.heads.clear()
                b.recorder.contents.clear()
        assert seen[0] == seen[1]


def undated(data: bytes) -> bytes:
    return re.sub(rb"(Date|Last-Modified): [^\r]*", rb"\1:", data)


class TestNobody:
    async def test_nothing_is_kept_before_somebody_asks(self):
        async with bench() as b:
            await b.exchange(b"GET /before HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            context = b.gateway.context
            assert context.watch is None
            assert (type(context.requests), type(context.recorder)) == (RequestTable, Recorder)
            assert await watched(b) == []

    async def test_what_is_handed_over_is_kept_no_more(self):
        async with bench() as b:
            await one_watched(b, b"GET /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            assert await watched(b) == []

    async def test_all_is_dropped_when_nobody_has_asked_for_too_long(self, monkeypatch):
        async with bench() as b:
            await b.gateway.watch()
            await b.exchange(b"GET /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            context = b.gateway.context
            watch = context.watch
            monkeypatch.setattr(watch, "_until_s", context.clock.now_s)
            async with asyncio.timeout(5):
                while context.watch is not None:
                    await asyncio.sleep(0.005)
            assert (type(context.requests), type(context.recorder)) == (RequestTable, Recorder)
            assert await watched(b) == []

    async def test_rules_that_change_meanwhile_end_no_watch(self):
        async with bench() as b:
            await b.gateway.watch()
            b.gateway.ruleset = b.gateway.ruleset
            assert type(b.gateway.context.requests) is KeepingTable
            row = await one_watched(b, b"GET /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            assert row["request"]["received"][0] == "GET /a HTTP/1.1"

    @pytest.mark.parametrize(("later_s", "is_over"), [(WATCHED_S - 0.01, False), (WATCHED_S, True)])
    async def test_watch_ends_so_long_after_the_last_call(self, later_s, is_over):
        watch = Watch(0.0)
        await watch.hand_over(NOW_S)
        assert watch.is_over(NOW_S + later_s) is is_over

    async def test_mistake_of_the_watch_breaks_no_exchange(self, monkeypatch, caplog):
        def fail(*_: object) -> None:
            raise RuntimeError("a mistake")

        async with bench() as b:
            b.may_fail = True
            await b.gateway.watch()
            monkeypatch.setattr(b.gateway.context.watch, "take", fail)
            peer = await b.connect()
            for _ in range(2):
                await peer.send(b"GET /a HTTP/1.1\r\nHost: app\r\n\r\n")
                assert (await peer.read_response()).status == 200
            assert "watching an exchange failed" in caplog.text

    async def test_exchange_that_cannot_be_shown_is_left_out(self, monkeypatch, caplog):
        monkeypatch.setattr(watch, "masked", lambda text: text if b"/good" in text else broken())
        watching = Watch(NOW_S)
        for target in (b"/good", b"/bad"):
            watching.take(Record(method="GET", target=target))
        (row,) = await watching.hand_over(NOW_S)
        assert json.loads(row)["target"] == "/good"
        assert "showing an exchange failed" in caplog.text


class TestBounds:
    async def test_only_the_latest_are_kept(self):
        watch = Watch(NOW_S)
        for number in range(KEPT + 50):
            watch.take(record(target=b"/%d" % number))
        rows = [json.loads(row)["target"] for row in await watch.hand_over(NOW_S)]
        assert rows == [f"/{number}" for number in range(50, KEPT + 50)]

    @pytest.mark.parametrize("many", [b"X-%d: " + b"v" * 200, b"X-%d: v", b"X-%d: " + "\u00fc".encode() * 60])
    async def test_heads_of_any_size_take_little(self, many):
        fields = [many % number for number in range(250)]
        head = request(b"GET /a HTTP/1.1", *fields, b"X-Long: " + b"w" * 40_000)
        head.received = b"GET /a HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(fields) + b"\r\n\r\n"
        watch = Watch(NOW_S)
        one = record(request=head, target=b"/" + b"t" * 60_000)
        one.upstream_status = 200
        one.sent = b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(fields) + b"\r\n\r\n"
        one.response = response(b"200 OK", *fields)
        watch.take(one)
        (ended,) = watch._ended
        assert sum(map(len, (ended.received, ended.forwarded, ended.responded, ended.sent))) <= 4 * 8192
        (row,) = await watch.hand_over(NOW_S)
        assert len(row) < 20_000
        shown = json.loads(row)
        assert len(shown["target"]) < 1100
        assert shown["request"]["forwarded"][-1] == "..."

    async def test_head_is_never_cut_within_the_name_that_tells_what_to_hide(self):
        """Wherever the bound falls, no part of the secret shows."""
        for padding in range(7_900, 8_200, 3):
            received = (
                b"GET /a HTTP/1.1\r\nX: "
                + b"x" * padding
                + b"\r\nCookie: s3cr3t\r\nAuthorization: s3cr3t\r\n\r\n"
            )
            head = request()
            head.received = received
            watch = Watch(NOW_S)
            watch.take(record(request=head))
            (row,) = await watch.hand_over(NOW_S)
            assert b"s3cr3t" not in row

    async def test_bytes_of_any_kind_become_text(self):
        head = request(b"GET /a HTTP/1.1")
        head.received = b"GET /a\xff HTTP/1.1\r\nX: \xe4\xff\t\x85 \xc3\xbc\r\n\r\n"
        watch = Watch(NOW_S)
        watch.take(record(request=head))
        (row,) = await watch.hand_over(NOW_S)
        assert json.loads(row)["request"]["received"] == ["GET /a%FF HTTP/1.1", "X: %E4%FF\t%85 \u00fc"]


def record(**given) -> Record:
    made = Record(**{"method": "GET", "target": b"/a", **given})
    made.ended_s = NOW_S
    return made
