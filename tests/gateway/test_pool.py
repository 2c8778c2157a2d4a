"""Upstream connections at rest: the one used last is lent first, one that may be dead is not lent at all.

How a lost race with the upstream ends is in `tests/wire/test_faults.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace

import pytest

from proxy.gateway import dialing, failures, pool
from proxy.gateway.pool import Pool
from proxy.settings import Settings, Upstream
from proxy.stats import Stats
from tests.gateway.fakes import broken
from tests.support.gateway import bench
from tests.support.peer import Peer
from tests.support.upstream import answering
from tests.support.waiting import LIMIT_S, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


class Connection:
    """What the pool needs of an upstream connection."""

    def __init__(self, *, is_closing=False, is_stale=False):
        self.transport = self
        self.idle_since_s = 0.0
        self.habit = None
        self.was_aborted = False
        self.is_closing = lambda: is_closing
        self.is_stale = lambda: is_stale

    def abort(self):
        self.was_aborted = True


def make_context(upstream="http://127.0.0.1:1", **settings):
    return SimpleNamespace(
        settings=Settings(upstream=Upstream.parse(upstream), upstream_keepalive_timeout_s=10, **settings),
        clock=SimpleNamespace(now_s=100.0),
        stats=Stats(),
        upstream_rest_s=10,
    )


def make_pool(gateway):
    """Make one whose app is known to keep connections."""
    made = Pool(gateway)
    for habit in made._habits:
        habit.was_kept = True
    return made


class Test_At_rest:
    def test_connection_used_last_is_lent_first_and_each_once(self):
        """The others grow old and are closed: the pool shrinks to what the load needs."""
        gateway = make_context()
        resting = make_pool(gateway)
        connections = [Connection() for _ in range(3)]
        for connection in connections:
            resting.put(connection)
        taken = [resting.take(must_be_fresh=False) for _ in range(4)]
        assert taken == [*reversed(connections), None]
        assert gateway.stats.upstream_reused_total == 3
        assert not any(connection.was_aborted for connection in connections)

    def test_connection_beyond_its_time_is_closed_and_not_lent(self):
        """Below what servers grant: gunicorn closes after 2 s."""
        gateway = make_context()
        resting = make_pool(gateway)
        old, young = Connection(), Connection()
        resting.put(old)
        gateway.clock.now_s += 6
        resting.put(young)
        gateway.clock.now_s += 5
        assert resting.take(must_be_fresh=False) is young
        assert resting.take(must_be_fresh=False) is None
        assert old.was_aborted
        assert gateway.stats.upstream_reused_total == 1

    def test_connection_that_is_closing_is_passed_over(self):
        resting = make_pool(make_context())
        lost, good = Connection(), Connection()
        for connection in (good, lost):
            resting.put(connection)
        lost.is_closing = lambda: True
        assert resting.take(must_be_fresh=False) is good
        assert lost.was_aborted

    @pytest.mark.parametrize("must_be_fresh", [True, False])
    def test_operating_system_is_asked_only_for_what_cannot_be_sent_twice(self, must_be_fresh):
        """It is a system call: a request that may be sent again takes the risk instead."""
        resting = make_pool(make_context())
        stale = Connection(is_stale=True)
        resting.put(stale)
        assert resting.take(must_be_fresh=must_be_fresh) is (None if must_be_fresh else stale)
        assert stale.was_aborted is must_be_fresh

    def test_fresh_one_is_found_behind_stale_ones(self):
        gateway = make_context()
        resting = make_pool(gateway)
        fresh = Connection()
        resting.put(fresh)
        for _ in range(3):
            resting.put(Connection(is_stale=True))
        gateway.clock.now_s += 2  # the app's time-out, and not its habit
        assert resting.take(must_be_fresh=True) is fresh

    @pytest.mark.parametrize(("is_draining", "is_closing"), [(True, False), (False, True)])
    def test_nothing_is_put_to_rest_while_draining_or_when_it_is_lost(self, is_draining, is_closing):
        gateway = make_context()
        gateway.upstream_rest_s = 0 if is_draining else 10
        resting = make_pool(gateway)
        connection = Connection(is_closing=is_closing)
        resting.put(connection)
        assert connection.was_aborted
        assert resting.take(must_be_fresh=False) is None

    def test_sweep_closes_what_is_too_old_and_leaves_the_rest(self):
        gateway = make_context()
        resting = make_pool(gateway)
        connections = [Connection() for _ in range(4)]
        for connection in connections:
            resting.put(connection)
            gateway.clock.now_s += 4
        resting.sweep()
        assert [connection.was_aborted for connection in connections] == [True, True, False, False]
        assert resting.take(must_be_fresh=False) is connections[3]

    def test_connection_that_was_lost_at_rest_is_forgotten_and_so_is_a_stranger(self):
        resting = make_pool(make_context())
        connection = Connection()
        resting.put(connection)
        resting.was_closed(connection)
        resting.was_closed(connection)
        assert resting.take(must_be_fresh=False) is None

    def test_close_ends_all_that_rest(self):
        resting = make_pool(make_context())
        connections = [Connection() for _ in range(3)]
        for connection in connections:
            resting.put(connection)
        resting.close()
        assert all(connection.was_aborted for connection in connections)


class Test_App_that_closes_after_an_answer:
    """Issue 16.3: without a word, as uWSGI does. What cannot be sent twice needs proof that it does not."""

    def make(self):
        gateway = make_context()
        resting, connection = Pool(gateway), Connection()
        resting.put(connection)
        return gateway, resting, connection

    def test_is_feared_until_a_connection_was_seen_to_last(self):
        _, resting, connection = self.make()
        assert resting.take(must_be_fresh=True) is None
        assert not connection.was_aborted
        assert resting.take(must_be_fresh=False) is connection

    def test_is_feared_no_more_when_one_has_answered_again(self):
        _, resting, connection = self.make()
        resting.take(must_be_fresh=False)
        resting.put(connection)
        assert resting.take(must_be_fresh=True) is connection

    def test_answer_after_content_proves_nothing_of_an_answer_without(self):
        """And the other way round."""
        _, resting, connection = self.make()
        resting.take(must_be_fresh=False)
        resting.put(connection, after_content=True)
        assert resting.take(must_be_fresh=True) is None
        resting.take(must_be_fresh=False)
        resting.put(connection)
        assert resting.take(must_be_fresh=True) is connection

    def test_connection_that_has_stood_for_a_moment_may_be_used(self):
        gateway, resting, connection = self.make()
        gateway.clock.now_s += 0.5
        assert resting.take(must_be_fresh=True) is connection
        assert gateway.stats.upstream_reused_total == 1

    def test_connection_put_just_before_a_tick_has_not_stood(self):
        """The clock is coarse: what came to rest a microsecond ago looks a tick old."""
        gateway, resting, connection = self.make()
        gateway.clock.now_s += 0.25
        resting.sweep()
        assert resting.take(must_be_fresh=True) is None
        assert not connection.was_aborted

    def test_proven_one_is_found_behind_one_that_is_not(self):
        _, resting, connection = self.make()
        young = Connection()
        resting.take(must_be_fresh=False)
        resting.put(connection)
        resting.put(young, after_content=True)
        assert resting.take(must_be_fresh=True) is connection
        assert resting.take(must_be_fresh=False) is young

    @pytest.mark.parametrize("how", ["at rest", "under a request", "closing", "stale"])
    @pytest.mark.parametrize("after_s", [0.0, 0.25])
    def test_is_feared_again_however_the_end_of_one_is_noticed(self, how, after_s):
        gateway, resting, connection = self.make()
        resting.take(must_be_fresh=False)
        resting.put(connection)
        gateway.clock.now_s += after_s
        if how == "at rest":
            resting.was_closed(connection)
        elif how == "under a request":
            assert resting.take(must_be_fresh=True) is connection
            resting.was_closed(connection)
        elif how == "closing":
            connection.is_closing = lambda: True
            assert resting.take(must_be_fresh=False) is None
        else:
            connection.is_stale = lambda: True
            assert resting.take(must_be_fresh=True) is None
        resting.put(Connection())
        assert resting.take(must_be_fresh=True) is None
        gateway.clock.now_s += 601
        resting.put(Connection())
        assert resting.take(must_be_fresh=True) is not None

    def test_end_after_a_long_rest_is_no_such_thing(self):
        """It is the app's time-out."""
        gateway, resting, connection = self.make()
        resting.take(must_be_fresh=False)
        resting.put(connection)
        gateway.clock.now_s += 1
        resting.was_closed(connection)
        resting.put(Connection())
        assert resting.take(must_be_fresh=True) is not None

    def test_end_that_is_the_pool_s_own_says_nothing_of_the_app(self):
        """Where connections may rest for less than a moment."""
        gateway, resting, connection = self.make()
        gateway.upstream_rest_s = 0.25
        resting.take(must_be_fresh=False)
        resting.put(connection)
        gateway.clock.now_s += 0.375
        assert resting.take(must_be_fresh=False) is None
        resting.put(Connection())
        assert resting.take(must_be_fresh=True) is not None

    def test_few_connections_rest_while_each_request_takes_a_new_one(self):
        gateway, resting, connection = self.make()
        resting.was_closed(connection)
        gateway.stats.in_flight = 10
        connections = [Connection() for _ in range(100)]
        for one in connections:
            resting.put(one)
        assert sum(not one.was_aborted for one in connections) == 43


class Test_Tls:
    def test_certificate_and_name_of_the_app_are_verified(self):
        context = dialing.tls_context(make_context("https://app.example").settings)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2

    def test_authority_that_cannot_be_read_is_told_at_once(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            Pool(make_context("https://app.example", upstream_ca=tmp_path / "none.pem"))

    @pytest.mark.parametrize("upstream", ["http://app.example", "unix:/run/app"])
    def test_there_is_none_where_it_was_not_asked_for(self, upstream):
        assert dialing.tls_context(make_context(upstream).settings) is None


class Test_On_the_wire:
    async def test_requests_in_turn_share_one_connection(self):
        async with bench() as b:
            peer = await b.connect()
            for _ in range(5):
                await peer.send(GET)
                await peer.read_response()
            assert b.recorder.connections == 1
            assert b.gateway.stats.upstream_reused_total == 4

    async def test_connections_are_as_many_as_requests_at_once_and_no_more(self):
        release = asyncio.Event()
        arrived = asyncio.Semaphore(0)

        async def waiting(peer: Peer) -> None:
            while await peer.reader.readuntil(b"\r\n\r\n"):
                arrived.release()
                await release.wait()
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with bench(waiting, upstream_keepalive_timeout_s=60) as b:
            peers = [await b.connect() for _ in range(8)]
            for _ in range(3):
                release.clear()
                for peer in peers:
                    await peer.send(GET)
                for _ in peers:
                    await asyncio.wait_for(arrived.acquire(), LIMIT_S)
                release.set()
                for peer in peers:
                    assert (await peer.read_response()).content == b"ok"
            assert b.recorder.connections == b.gateway.stats.upstream_connections == 8

    async def test_upstream_that_speaks_unasked_at_rest_loses_its_connection(self):
        """It could be taken for the next response."""
        spoken = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await spoken.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            await peer.reader.read()

        async with bench(script, upstream_keepalive_timeout_s=60) as b:
            peer = await b.connect()
            await peer.send(GET)
            await peer.read_response()
            spoken.set()
            await until(lambda: not b.gateway.stats.upstream_connections)
            assert b.gateway.pool.take(must_be_fresh=False) is None

    async def test_attempt_that_is_refused_is_tried_once_more_and_then_told(self, monkeypatch):
        monkeypatch.setattr(pool, "_RETRY_PAUSE_S", 0)
        tried: list[int] = []

        async def refused(_pool):
            tried.append(1)
            raise ConnectionRefusedError(111, "refused")

        monkeypatch.setattr(Pool, "open", refused)
        async with bench() as b:
            answer = await b.exchange(POST.replace(b"Host: a", b"Host: a\r\nConnection: close"))
            assert (answer.status, len(tried)) == (502, 2)
            assert b.gateway.stats.retries_total == 1
            assert b.gateway.stats.upstream_errors == {failures.CONNECT_REFUSED.reason: 1}

    async def test_mistake_of_who_waits_is_logged_and_counted_at_once(self, caplog):
        """Else the task would keep it for itself until it is collected."""
        async with bench(upstream="http://127.0.0.1:1") as b:
            b.may_fail = True
            waiter = SimpleNamespace(upstream_unavailable=broken)
            b.gateway.pool.connect(waiter)
            await until(lambda: b.gateway.stats.proxy_errors)
            assert b.gateway.stats.proxy_errors == {"internal_error": 1}
            assert not b.gateway.pool._attempts
        assert [record.getMessage() for record in caplog.records] == ["telling of a connection failed"]

    async def test_connection_that_ends_before_anyone_listens_is_told(self, monkeypatch):
        async def closed(_pool):
            return Connection(is_closing=True)

        monkeypatch.setattr(Pool, "open", closed)
        async with bench() as b:
            answer = await b.exchange(GET.replace(b"Host: a", b"Host: a\r\nConnection: close"))
            assert answer.status == 502
            assert b.gateway.stats.upstream_errors == {failures.UPSTREAM_CLOSED.reason: 1}

    async def test_attempt_that_times_out_is_not_tried_again(self, monkeypatch):
        tried: list[int] = []

        async def hanging(_pool):
            tried.append(1)
            await asyncio.Event().wait()

        monkeypatch.setattr(Pool, "open", hanging)
        async with bench(connect_timeout_s=0.02) as b:
            answer = await b.exchange(GET.replace(b"Host: a", b"Host: a\r\nConnection: close"))
            assert (answer.status, len(tried)) == (504, 1)
            assert b.gateway.stats.retries_total == 0

    async def test_close_ends_attempts_under_way(self, monkeypatch):
        began, ended = asyncio.Event(), asyncio.Event()

        async def hanging(_pool):
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        monkeypatch.setattr(Pool, "open", hanging)
        async with bench(connect_timeout_s=3600) as b:
            await (await b.connect()).send(GET)
            await asyncio.wait_for(began.wait(), LIMIT_S)
            b.gateway.pool.close()
            await asyncio.wait_for(ended.wait(), LIMIT_S)

    async def test_post_asks_first_whether_the_connection_still_stands(self):
        """A second POST would be a second order."""
        async with bench(answering(), upstream_keepalive_timeout_s=60) as b:
            peer = await b.connect()
            for request in (GET, GET, POST, GET):
                await peer.send(request)
                await peer.read_response()
            (resting,) = b.gateway.pool._idle
            assert not resting.is_stale()
            for _ in range(2):
                await peer.send(POST)
                await peer.read_response()
            assert b.recorder.connections == 1
