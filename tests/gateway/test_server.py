"""What the connections of a worker share: who is trusted, what is counted and logged, the sweep, the drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest

from proxy.gateway import clock, log_target, peers
from proxy.gateway.access_log import AccessLog
from proxy.rules.engine.matching import Ruleset
from proxy.rules.model import Rule
from proxy.rules.policies import CLASSIC
from proxy.settings import parse_networks
from tests.support.gateway import bench, make_gateway
from tests.support.peer import XHR_LINE, Peer
from tests.support.waiting import LIMIT_S, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n"


@pytest.fixture(autouse=True)
def fast_clock(monkeypatch):
    monkeypatch.setattr(clock, "TICK_S", 0.01)


class Holding:
    """An upstream that says when a request has come, and answers it when it is told to."""

    def __init__(self):
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        while await peer.reader.readuntil(b"\r\n\r\n"):
            self.asked.set()
            await self.go.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Test_Peers:
    @pytest.mark.parametrize(
        ("peername", "address", "is_trusted"),
        [
            (("127.0.0.1", 1), "127.0.0.1", True),
            (("10.1.2.3", 1), "10.1.2.3", False),
            (("203.0.113.7", 1), "203.0.113.7", False),
            (("::1", 1, 0, 0), "::1", True),
            (("fe80::1%eth0", 1, 0, 2), "fe80::1%eth0", False),
            (("2001:db8::1", 1, 0, 0), "2001:db8::1", False),
            (("::ffff:127.0.0.1", 1, 0, 0), "127.0.0.1", True),
            (("::ffff:203.0.113.7", 1, 0, 0), "203.0.113.7", False),
            ("", "", True),
            (None, "", True),
        ],
    )
    async def test_only_this_machine_is_trusted_unless_told_otherwise(self, peername, address, is_trusted):
        """An IPv4 address on a socket for both is written as such; on a Unix socket is who may open it. Issue 16.8."""
        peer, logged = make_gateway().context.peers.of(peername)
        assert (peer.address, peer.is_trusted, logged) == (address.encode(), is_trusted, address)

    async def test_peer_whose_forwarding_fields_are_dropped_is_named_once(self, caplog):
        """Issue 16.21: whoever forgot to name a load balancer reads which flag it takes; a flood fills no log."""
        sent = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n"
        async with bench(rules=(), trusted_proxies=()) as b:
            for _ in range(2):
                peer = await b.connect()
                for request in (sent, sent.replace(b"X-Forwarded-Proto", b"x-real-ip")):
                    await peer.send(request)
                    assert (await peer.read_response()).status == 200
            assert b"https" not in b"".join(b.recorder.heads)
        (line,) = caplog.messages
        assert line.startswith("dropped the forwarding fields (X-Forwarded-* and the like) of 127.0.0.1; ")
        assert "--trusted-proxies" in line

    @pytest.mark.parametrize("settings", [{}, {"trusted_proxies": (), "forwarded": "replace"}])
    async def test_nothing_is_said_where_they_are_kept_or_replaced_on_purpose(self, settings, caplog):
        async with bench(rules=(), **settings) as b:
            answer = await b.exchange(
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
            )
            assert answer.status == 200
        assert not caplog.messages

    async def test_log_of_a_flood_of_peers_is_bounded(self, monkeypatch, caplog):
        monkeypatch.setattr(peers, "_MAX_DISTRUSTED", 8)
        known = make_gateway().context.peers
        for number in range(100):
            known.say_distrusted(known.of((f"198.51.100.{number}", 1))[0])
        assert len(caplog.messages) == 8

    async def test_networks_that_are_given_replace_the_default_ones(self):
        gateway = make_gateway(trusted_proxies=parse_networks("203.0.113.0/24"))
        assert gateway.context.peers.of(("203.0.113.7", 1))[0].is_trusted
        assert not gateway.context.peers.of(("127.0.0.1", 1))[0].is_trusted

    async def test_addresses_that_are_remembered_are_bounded(self, monkeypatch):
        monkeypatch.setattr(peers, "_MAX_PEERS", 8)
        gateway = make_gateway()
        for number in range(100):
            assert gateway.context.peers.of((f"198.51.100.{number}", 1))[1] == f"198.51.100.{number}"
            assert len(gateway.context.peers._known) <= 8
        assert gateway.context.peers.of(("198.51.100.99", 5)) is gateway.context.peers.of(
            ("198.51.100.99", 6)
        )


async def test_refused_request_is_counted_by_reason_and_logged(tmp_path):
    """With what can be read of it; its method is no label, as a client could make up any number of them."""
    log = AccessLog("json", tmp_path / "log")
    async with bench() as b:
        b.gateway.context.recorder.access_log = log
        answer = await b.exchange(b"brew /pot HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (answer.status, answer.is_protected) == (400, True)
        assert b.gateway.stats.client_errors == {"bad_request": 1}
        assert b.gateway.stats.requests == {("", "", 4): 1}
    log.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["status"], entry["error"]) == (400, "bad_request")
    assert entry["detail"] == "a method that is not upper-case letters, digits, '-' and '_'"
    assert (entry["method"], entry["target"], entry["policy"]) == ("brew", "/pot", "strict")
    assert (entry["client"], entry["bytes_out"]) == ("127.0.0.1", len(answer.content))


async def test_finished_exchange_is_logged_by_the_next_tick(tmp_path):
    log = AccessLog("json", tmp_path / "log")
    async with bench() as b:
        b.gateway.context.recorder.access_log = log
        peer = await b.connect()
        await peer.send(GET)
        await peer.read_response()
        await until(lambda: (tmp_path / "log").stat().st_size)
    log.close()
    entry = json.loads((tmp_path / "log").read_text())
    assert (entry["method"], entry["status"], entry["rule"], entry["policy"]) == (
        "GET",
        200,
        "ajax",
        "strict",
    )


async def test_new_rules_apply_to_the_next_request_head_on_the_same_connection():
    holding = Holding()
    async with bench(holding) as b:
        peer = await b.connect()
        await peer.send(GET)
        await asyncio.wait_for(holding.asked.wait(), LIMIT_S)
        b.gateway.ruleset = Ruleset([Rule("all", CLASSIC)])
        holding.go.set()
        under_way = await peer.read_response()
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        after = await peer.read_response()
        assert b"max-age=0" in under_way.field("Cache-Control")[0]
        assert b"post-check=0" in after.field("Cache-Control")[0]


class Test_Sweep:
    async def test_client_at_rest_is_closed_in_its_time(self):
        async with bench(keepalive_timeout_s=0.02) as b:
            peer = await b.connect()
            assert (await peer.read_to_end()).data == b""

    async def test_upstream_at_rest_is_closed_in_its_time(self):
        async with bench(upstream_keepalive_timeout_s=0.02) as b:
            peer = await b.connect()
            await peer.send(GET)
            await peer.read_response()
            await until(lambda: not b.gateway.stats.upstream_connections)


class Test_Drain:
    async def test_without_clients_it_ends_at_once_and_nothing_listens(self):
        async with bench() as b:
            assert await b.gateway.drain(3600) == 0
            with pytest.raises(ConnectionRefusedError):
                await b.connect()

    async def test_exchange_in_flight_ends_and_its_connection_closes(self):
        holding = Holding()
        async with bench(holding) as b:
            resting, busy = await b.connect(), await b.connect()
            await busy.send(GET)
            await asyncio.wait_for(holding.asked.wait(), LIMIT_S)
            draining = asyncio.create_task(b.gateway.drain(3600))
            assert (await resting.read_to_end()).data == b""
            assert not draining.done()
            holding.go.set()
            answer = await busy.read_to_end()
            assert (answer.status, answer.content, answer.end) == (200, b"ok", "closed")
            assert answer.field("Connection") == [b"close"]
            assert await asyncio.wait_for(draining, LIMIT_S) == 0

    async def test_what_does_not_end_in_time_is_broken_off_and_counted(self):
        holding = Holding()
        async with bench(holding) as b:
            three = [await b.connect() for _ in range(3)]
            for peer in three[:2]:
                await peer.send(GET)
            await three[2].send(b"GET / HT")
            await until(lambda: b.gateway.stats.in_flight == 2 and len(b.gateway.clients) == 3)
            assert await asyncio.wait_for(b.gateway.drain(0.02), LIMIT_S) == 2
            answers = [await peer.read_to_end() for peer in three]
            assert all(answer.status in (0, 503) for answer in answers)
            await b.settled()
            assert b.gateway.stats.in_flight == 0


async def test_lines_that_the_access_log_gives_up_are_counted(monkeypatch):
    """Its reader is too slow, or its disk is full; what is kept for it is bounded."""
    monkeypatch.setattr(log_target, "_MAX_PENDING_BYTES", 3000)
    asked = 20
    async with bench() as b:
        log = b.gateway.context.recorder.access_log = AccessLog("json", Path("/dev/full"))
        peer = await b.connect()
        for _ in range(asked):
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await peer.read_response()
        log.flush()
        assert 0 < log.dropped < asked
        await until(lambda: b.gateway.stats.snapshot()["access_log_lines_dropped_total"] == log.dropped)
        log.close()


async def test_fields_dropped_for_their_underscore_are_counted_and_each_name_is_logged_once(caplog):
    async with bench() as b:
        peer = await b.connect()
        for _ in range(3):
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nX_User: a\r\nx_user: b\r\nX_Other: c\r\n\r\n")
            await peer.read_response()
        await until(lambda: b.gateway.stats.underscore_fields_dropped_total == 9)
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nX_User: a\r\n\r\n")
        await peer.read_response()
        await until(lambda: b.gateway.stats.underscore_fields_dropped_total == 10)
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nX_User: a\r\n\r\n")
        await peer.read_response()
        b.gateway.ruleset = Ruleset()  # before the next tick
        assert b.gateway.stats.underscore_fields_dropped_total == 11
    told = [
        record.getMessage() for record in caplog.records if "dropped the request field" in record.getMessage()
    ]
    assert sorted(line.split(":")[0] for line in told) == [
        "dropped the request field x_other",
        "dropped the request field x_user",
    ]


async def test_names_that_a_client_makes_up_fill_neither_memory_nor_the_log(caplog):
    async with bench() as b:
        peer = await b.connect()
        for start in range(0, 300, 50):
            lines = b"".join(b"X_%d_%s: a\r\n" % (number, b"n" * 500) for number in range(start, start + 50))
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
            await peer.read_response()
        await until(lambda: b.gateway.stats.underscore_fields_dropped_total == 300)
    told = [
        record.getMessage() for record in caplog.records if "dropped the request field" in record.getMessage()
    ]
    assert 0 < len(told) <= 64
    assert max(map(len, told)) < 200


class Test_Probe:
    async def test_app_that_listens_is_reachable_and_gets_no_request(self):
        async with bench() as b:
            assert await b.gateway.probe_upstream() is None
            assert b.recorder.heads == []

    async def test_is_no_traffic(self):
        """An orchestrator asks every few seconds: that would look like an app that keeps no connection open."""
        ended = asyncio.Event()

        async def app(peer: Peer) -> None:
            with contextlib.suppress(ConnectionError):
                await peer.reader.read()
            ended.set()

        async with bench(app) as b:
            before = b.gateway.stats.snapshot()
            assert await b.gateway.probe_upstream() is None
            await asyncio.wait_for(ended.wait(), LIMIT_S)
            assert b.gateway.stats.snapshot() == before

    async def test_reason_is_given_where_it_is_not(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        async with bench(upstream=f"http://127.0.0.1:{port}") as b:
            reason = await b.gateway.probe_upstream()
            assert reason is not None
            assert reason.startswith("the app does not accept connections (")

    async def test_socket_of_the_app_that_is_not_there_yet(self, tmp_path):
        async with bench(upstream=f"unix:{tmp_path}/none") as b:
            assert "the app does not accept connections" in (await b.gateway.probe_upstream() or "")

    async def test_app_that_does_not_answer_in_time(self, monkeypatch):
        async with bench(connect_timeout_s=0.02) as b:
            monkeypatch.setattr(type(b.gateway.pool), "probe", lambda _pool: asyncio.Event().wait())
            assert (await b.gateway.probe_upstream() or "").startswith("the app could not be reached in time")
