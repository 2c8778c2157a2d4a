"""Random and damaged traffic through the gateway's own protocols, without sockets: what `test_fuzz` runs.

One seed is one episode: connections of up to three clients with up to four requests each, upstream connections that
answer or misbehave, everything in random pieces, with congestion, time-outs and either side leaving at any moment.
Upstreams send content late, after the end of an answer to HEAD, 204, 304, or a chunked upload; some connections are
authenticated. Answers name the client that has asked, so that what gets to another one shows.
Sockets, time and tasks are the only things replaced; pool, exchange and both protocols are the real ones.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from proxy.gateway import failures
from proxy.gateway.exchange import Exchange
from proxy.gateway.pool import Pool
from proxy.gateway.read_buffer import SMALL_BYTES
from proxy.gateway.record import Record
from proxy.gateway.server import Gateway
from proxy.gateway.upstream import Phase, UpstreamConnection
from proxy.rules.engine.matching import Ruleset
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from proxy.settings import Settings, Upstream
from proxy.stats import Stats
from tests.rules.making import conditions, field_key
from tests.support.strict_reader import read_requests, read_responses
from tests.wire.fuzz_messages import (
    NUMBERED,
    UNASKED,
    challenge,
    late_answer,
    random_requests,
    random_response,
)

RULESETS = {
    "every response": (Rule("all", STRICT),),
    "XHR": (
        Rule("xhr", STRICT, conditions(fields=(field_key("X-Requested-With", globs=("XMLHttpRequest",)),))),
    ),
    "no rules": (),
}
NAMES = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
_ROUNDS = 12  # more than four requests that each time out, then the connection itself
_IDLE, _IDLE_PEER = socket.socketpair()
_IDLE.setblocking(False)  # as those of the loop are


class Episodes:
    """Runs episodes on one gateway for each ruleset, so that what one leaves behind meets the next.

    Raises:
        AssertionError: a guarantee was broken; its text has the seed and what was on the wire.
    """

    def __init__(self) -> None:
        self._worlds = [_World(rules) for rules in RULESETS.values()]
        self.seen: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()

    def run(self, seed: int) -> None:
        """Run the episode of a seed."""
        chance = random.Random(seed)
        world = self._worlds[seed % len(self._worlds)]
        episode = _Episode(world, chance, clients=chance.choice((1, 2, 3)))
        try:
            episode.run()
            episode.check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}\n{episode.describe()}") from error
        self.seen.update(episode.outcomes())
        self.steps.update(episode.steps())


class _FakeLoop:
    """Calls back when the episode says so."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self._ready.append((callback, args))

    def run(self) -> None:
        for _ in range(10_000):
            if not self._ready:
                return
            callback, args = self._ready.popleft()
            callback(*args)
        raise AssertionError("callbacks without end")


class FakeTransport(asyncio.Transport):
    """Keeps what is written, and notes how the connection ended.

    Attributes:
        written: all bytes that were taken.
        takes: what is written leaves at once; else only with `take`, as with a slow reader.
        end: "" while it is open, `closed` after the rest of what was written, `aborted` at once.
        half_closed: nothing more is written.
    """

    def __init__(self, loop: _FakeLoop, protocol: Any, address: str = "192.0.2.1") -> None:
        super().__init__()
        self._loop = loop
        self.protocol = protocol
        self._address = address
        self.written = bytearray()
        self.takes = True
        self._untaken: list[bytes | memoryview] = []
        self.end = ""
        self.is_lost = False
        self.is_paused = False
        self.half_closed = False
        self.large_reads_with_a_head = 0

    def write(self, data: Any) -> None:
        assert isinstance(data, bytes | bytearray | memoryview), type(data)
        assert not self.half_closed, "write after write_eof"
        if not self.end:
            self._untaken.append(data)
            if self.takes:
                self.take()

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def take(self) -> None:
        """Take all that was written, as it is now: whoever wrote a view has left it alone since, or is found out."""
        for data in self._untaken:
            self.written += data
        self._untaken.clear()

    def deliver(self, data: bytes) -> bytes:
        """Hand over what has come, as far as one read goes; return the rest."""
        if isinstance(self.protocol, asyncio.BufferedProtocol):
            buffer = self.protocol.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            connection = self.protocol
            if size > SMALL_BYTES and isinstance(connection, UpstreamConnection):
                self.large_reads_with_a_head += connection.phase is Phase.AWAITING
            self.protocol.buffer_updated(size)
            return data[size:]
        self.protocol.data_received(data)
        return b""

    def close(self) -> None:
        if not self.end:
            self.take()
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def lose(self, error: Exception | None) -> None:
        """The other side is gone."""
        if not self.end:
            self.end = "lost"
            self.is_lost = True
            self.protocol.connection_lost(error)

    def is_closing(self) -> bool:
        return bool(self.end)

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._untaken))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self._address, 1), "socket": _IDLE}.get(name, default)

    def _end(self, how: str) -> None:
        if not self.end:
            self.end = how
            self._loop.call_soon(self._lost)

    def _lost(self) -> None:
        self.is_lost = True
        self.protocol.connection_lost(None)


class _Log:
    """Takes the access log's place: methods and failures in the order of the exchanges."""

    dropped = 0

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def flush(self) -> None: ...


class _Attempt:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> bool:
        self.is_cancelled = True
        return True


class _FuzzPool(Pool):
    """The real pool, but for how a connection is opened."""

    episode: _Episode

    def connect(self, exchange: Exchange) -> Any:
        attempt = _Attempt()
        self.episode.connecting.append((attempt, exchange))
        return attempt


class _World:
    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.loop = _FakeLoop()
        self.log = _Log()
        settings = Settings(
            via="on",  # by which forwarded requests are told
            upstream=Upstream.parse("http://app"),
            max_head_size_bytes=4096,
            max_connections=4,
        )
        self.gateway = Gateway(settings, Ruleset(rules), Stats(), self.log, self.loop)  # type: ignore[arg-type]
        self.pool = _FuzzPool(self.gateway.context)
        self.gateway.pool = self.pool
        self.gateway._begin_exchange = partial(Exchange, self.gateway.context, self.pool)
        self.protects_all = any(rule.match == conditions() for rule in rules)

    def tick(self, seconds: float) -> None:
        self.gateway.context.clock.now_s += seconds
        self.gateway._sweep()


class _Upstream:
    """The other end of an upstream connection: answers each whole request that it is sent.

    Attributes:
        askers: who has sent each request.
        owner: whose it is, and how many requests had come when it became so.
    """

    def __init__(
        self, connection: UpstreamConnection, transport: FakeTransport, *, large_share: float
    ) -> None:
        self.connection = connection
        self.transport = transport
        self._large_share = large_share
        self.to_send = b""
        self.late = b""
        self.late_answers = 0
        self.closes = False
        self.has_ended = False  # and says no more, as no socket can
        self.has_switched = False
        self.askers: list[bytes] = []
        self.owner: tuple[bytes, int] | None = None

    def answer(self, chance: random.Random) -> None:
        """Prepare an answer when there is a request that has none (early ones included)."""
        asked = self.transport.written.count(b"Via: 1.")
        if asked <= len(self.askers):
            return
        before, _, last = bytes(self.transport.written).rpartition(b" HTTP/1.1\r\n")
        method = before.rpartition(b"\r\n")[2].partition(b" ")[0].decode("latin-1")
        asker = _asker(last)
        self.askers.extend([asker] * (asked - len(self.askers)))
        if self.owner is None and re.search(rb"(?m)^Authorization: (NTLM|Negotiate) x\r$", last):
            self.owner = asker, asked
        if chance.random() < 0.05:
            self.owner = self.owner or (asker, asked)
            response, self.closes = challenge(asker), False
        else:
            response, self.closes = random_response(
                chance,
                method,
                asker,
                asks_to_switch=b"\r\nUpgrade: " in last,
                large_share=self._large_share,
            )
        self.to_send += self.late + response
        status = response[9:12]
        is_left_open = not self.closes and not self.has_switched
        follows = (
            method == "HEAD" or status in (b"204", b"304") or b"\r\nTransfer-Encoding: chunked\r\n" in last
        )
        self.late = b""
        if is_left_open and follows and chance.random() < 0.5:
            self.late = late_answer(chance, asker)
            self.late_answers += 1


def _asker(request: bytes) -> bytes:
    """Who has sent a request, by what the gateway says."""
    return request.partition(b"\r\nX-Forwarded-For: ")[2].partition(b"\r\n")[0]


class _Client:
    """The other end of a client's connection.

    Attributes:
        name: its address.
    """

    def __init__(self, world: _World, chance: random.Random, name: str) -> None:
        self.name = name
        self.connection = world.gateway._protocol()
        self.transport = FakeTransport(world.loop, self.connection, name)
        self.transport.takes = chance.random() < 0.7
        self.to_send = random_requests(chance)
        self.sent = b""
        self._has_half_closed = self._is_congested = False

    def send_piece(self, size: int) -> None:
        if self.transport.end or self.transport.is_paused or self._has_half_closed:
            return
        piece, self.to_send = self.to_send[:size], self.to_send[size:]
        if piece:
            self.sent += piece
            self.connection.data_received(piece)

    def congest(self, is_congested: bool) -> None:
        if is_congested is not self._is_congested and not self.transport.end:
            self._is_congested = is_congested
            (self.connection.pause_writing if is_congested else self.connection.resume_writing)()

    def toggle_congestion(self) -> None:
        self.congest(not self._is_congested)

    def half_close(self) -> None:
        if not self.transport.end and not self._has_half_closed:
            self._has_half_closed = True
            if not self.connection.eof_received():
                self.transport.close()

    def check(self, records: list[Record], *, protects_all: bool) -> None:
        """Hold what was written to it against the guarantees."""
        assert not self.to_send or self.transport.end or self._has_half_closed, "the client was not heard"
        assert self.transport.end, "the client's connection is still open"
        methods = [record.method or "GET" for record in records if record.client == self.name]
        responses = read_responses(bytes(self.transport.written), iter(methods))
        for response in responses:
            is_own = any(value.startswith(b"nocache-proxy") for value in response.values(b"proxy-status"))
            if response.status >= 200 and (protects_all or is_own):
                assert response.is_protected, response
            content = response.content.removesuffix(UNASKED)
            assert len(content) < 2 * SMALL_BYTES or content in NUMBERED, "bytes at the wrong place"
            others = {name.encode() for name in NAMES if name != self.name}
            assert others.isdisjoint(response.values(b"x-asked-by")), f"{self.name} got another's answer"
        if self.transport.end == "closed" and responses and not self._has_half_closed:
            assert responses[-1].is_complete is not False, "a clean end of a cut response"


class _Episode:
    def __init__(self, world: _World, chance: random.Random, clients: int = 1) -> None:
        self._world = world
        self._chance = chance
        world.log.records.clear()
        world.pool.episode = self
        self.connecting: list[tuple[_Attempt, Exchange]] = []
        self._upstreams: list[_Upstream] = []
        self._clients = [_Client(world, chance, name) for name in NAMES[:clients]]

    def run(self) -> None:
        chance, loop = self._chance, self._world.loop
        for client in self._clients:
            client.connection.connection_made(client.transport)
        for _ in range(chance.choice((6, 12, 30)) * len(self._clients)):
            self._step(chance.random())
            loop.run()
        self._let_all_end()

    def _step(self, roll: float) -> None:
        chance = self._chance
        client = chance.choice(self._clients)
        if roll < 0.40:
            client.send_piece(chance.choice((1, 7, 40, 10_000)))
        elif roll < 0.60:
            self._connect()
        elif roll < 0.90:
            self._answer_piece(chance.choice((1, 7, 40, 10_000, 300_000)))
        elif roll < 0.92:
            client.toggle_congestion()
        elif roll < 0.93:
            client.transport.take()
        elif roll < 0.95 and self._upstreams:
            protocol = chance.choice(self._upstreams).transport.protocol
            (protocol.pause_writing if chance.random() < 0.5 else protocol.resume_writing)()
        elif roll < 0.965 and self._upstreams:
            chance.choice(self._upstreams).transport.lose(
                chance.choice((None, ConnectionResetError("reset")))
            )
        elif roll < 0.975:
            self._world.tick(chance.choice((0.25, 3, 400)))
        elif roll < 0.98:
            client.half_close()
        elif roll < 0.985:
            client.transport.lose(chance.choice((None, ConnectionResetError("reset"))))

    def _connect(self) -> None:
        if not self.connecting:
            return
        attempt, exchange = self.connecting.pop()
        if attempt.is_cancelled:
            return
        if self._chance.random() < 0.05:
            exchange.upstream_unavailable(failures.CONNECT_REFUSED)
            return
        connection = UpstreamConnection(self._world.gateway.context, self._world.pool)
        transport = FakeTransport(self._world.loop, connection)
        # One large answer after the other is read otherwise than one among small ones.
        upstream = _Upstream(connection, transport, large_share=0.9 if self._chance.random() < 0.1 else 0.02)
        self._upstreams.append(upstream)
        connection.connection_made(transport)
        if self._chance.random() < 0.02:  # speaks first, or goes at once
            if self._chance.random() < 0.5:
                connection.data_received(b"220 ready\r\n")
            else:
                transport.lose(None)
            self._world.loop.run()
        self._world.pool._hand_over(connection, exchange)

    def _answer_piece(self, size: int) -> None:
        for upstream in self._upstreams:
            if upstream.transport.end or upstream.transport.is_paused or upstream.has_ended:
                continue
            upstream.answer(self._chance)
            if not upstream.to_send and upstream.late and self._chance.random() < 0.5:
                upstream.to_send, upstream.late = upstream.late, b""
            piece, upstream.to_send = upstream.to_send[:size], upstream.to_send[size:]
            if piece:
                upstream.to_send = upstream.transport.deliver(piece) + upstream.to_send
                upstream.has_switched |= upstream.connection.phase is Phase.TUNNEL
            elif upstream.closes:
                if not upstream.connection.eof_received():
                    upstream.transport.lose(None)
                upstream.has_ended = True
            self._world.loop.run()

    def _let_all_end(self) -> None:
        """Hand over all that is left, then let time pass: nothing may be in flight afterwards."""
        loop = self._world.loop
        for client in self._clients:
            client.congest(is_congested=False)
        for _ in range(_ROUNDS):
            for _ in range(3):
                while self.connecting:
                    self._connect()
                for upstream in self._upstreams:
                    upstream.connection.resume_writing()
                for client in self._clients:
                    client.send_piece(100_000)
                loop.run()
                self._answer_piece(1_000_000)
                for client in self._clients:
                    client.transport.take()
            self._world.tick(400)  # beyond every time-out
            loop.run()
            if all(client.transport.end for client in self._clients):
                break
        self._world.tick(400)
        loop.run()

    def replay(self, data: bytes, size: int) -> tuple[list[object], list[int]]:
        """Send `data` in even pieces; the upstream answers each request when it is whole."""
        (client,) = self._clients
        client.connection.connection_made(client.transport)
        for start in range(0, len(data), max(size, 1)):
            client.connection.data_received(data[start : start + size])
            self._world.loop.run()
            self._answer_whole_requests()
            if client.transport.end or client.transport.half_closed:
                break
        forwarded = [
            (request.start, request.fields, request.content)
            for upstream in self._upstreams
            for request in read_requests(bytes(upstream.transport.written))
            if request.is_complete
        ]
        # Which limit or which mistake is seen first depends on the pieces.
        statuses = [
            400 if record.status in (414, 431) else record.status for record in self._world.log.records
        ]
        return list(forwarded), statuses

    def _answer_whole_requests(self) -> None:
        answered = -1
        while answered != len(self._world.log.records):
            answered = len(self._world.log.records)
            while self.connecting:
                self._connect()
            self._world.loop.run()
            for upstream in self._upstreams:
                exchange = upstream.connection._exchange
                if exchange is not None and exchange._request_complete:
                    assert read_requests(bytes(upstream.transport.written))[-1].is_complete
                    upstream.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            self._world.loop.run()

    def check(self) -> None:
        """Hold what was written on both sides against the guarantees."""
        gateway = self._world.gateway
        assert gateway.stats.in_flight == gateway.stats.tunnels == 0, "an exchange hangs"
        assert not gateway.clients
        assert gateway.stats.decision_failures_total == 0
        assert not gateway.stats.proxy_errors["internal_error"], "it failed by itself; see its log"
        assert gateway.stats.client_connections == gateway.stats.upstream_connections == 0, (
            "a connection leaks"
        )
        for upstream in self._upstreams:
            requests = read_requests(
                bytes(upstream.transport.written),
                switched=upstream.has_switched,
            )
            assert all(request.is_complete for request in requests[:-1])
            if upstream.owner is not None:
                owner, since = upstream.owner
                later = {name for request in requests[since:] for name in request.values(b"x-forwarded-for")}
                assert later <= {owner}, "a connection that is authenticated was lent"
        for client in self._clients:
            client.check(self._world.log.records, protects_all=self._world.protects_all)

    def outcomes(self) -> list[str]:
        """What happened, for the distribution."""
        return [f"{record.status} {record.error[:60]}".strip() for record in self._world.log.records]

    def steps(self) -> dict[str, int]:
        """How often there was what might get to somebody else."""
        return {
            "requests": len(self._world.log.records),
            "HEADs": sum(record.method == "HEAD" for record in self._world.log.records),
            "late answers": sum(upstream.late_answers for upstream in self._upstreams),
            "authenticated connections": sum(upstream.owner is not None for upstream in self._upstreams),
            "connections lent to another client": sum(
                len(set(upstream.askers)) > 1 for upstream in self._upstreams
            ),
            "large reads with a head": sum(
                upstream.transport.large_reads_with_a_head for upstream in self._upstreams
            ),
        }

    def describe(self) -> str:
        lines = []
        for client in self._clients:
            lines += [
                f"{client.name} sent {client.sent!r}",
                f"{client.name} got ({client.transport.end}) {_shown(client.transport.written)}",
            ]
        for upstream in self._upstreams:
            lines.append(f"upstream got ({upstream.transport.end}) {_shown(upstream.transport.written)}")
        return "\n".join([*lines, *self.outcomes()])


def _shown(data: bytearray) -> str:
    """Show bytes as they are, but for large content."""
    if len(data) < 2 * SMALL_BYTES:
        return repr(bytes(data))
    return f"{bytes(data[:1000])!r} ... {bytes(data[-1000:])!r} ({len(data)} bytes)"


def forwarded_in_pieces(data: bytes, size: int) -> tuple[list[object], list[int]]:
    """Send a client's bytes in pieces of a size to an upstream that answers 200 to each whole request.

    Returns:
        The whole requests that the upstream got, as (request line, fields, content), and the statuses sent.
    """
    world = _World(())
    episode = _Episode(world, random.Random(0))
    return episode.replay(data, size)
