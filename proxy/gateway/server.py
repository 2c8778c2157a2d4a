"""One worker: everything that its connections share, from the first accept to the end of the drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from proxy.audit.collector import Collector
from proxy.gateway import trace
from proxy.gateway.access_log import AccessLog
from proxy.gateway.client import ClientConnection
from proxy.gateway.clients import Clients
from proxy.gateway.clock import Clock
from proxy.gateway.context import Context
from proxy.gateway.exchange import Exchange
from proxy.gateway.failures import DRAINED, connect_failure
from proxy.gateway.guard import guarded
from proxy.gateway.pool import Pool
from proxy.gateway.recorder import Recorder
from proxy.gateway.watch import Watch
from proxy.rules.engine.matching import Ruleset
from proxy.settings import Settings
from proxy.stats import Stats

_BACKLOG: Final = 2048


class Gateway:
    """Accepts clients and serves them.

    Args:
        settings: of this process.
        ruleset: in force for the first request; assign `ruleset` to change it for the next request head.
        stats: counted into.
        access_log: written to, and flushed on each tick.
        loop: the event loop that all connections run on.
        audit: collects what the app answers; `None` while the audit is off.

    Attributes:
        context: what its connections share.
        clients: every open client connection.
        pool: connections to the app.
    """

    def __init__(
        self,
        settings: Settings,
        ruleset: Ruleset,
        stats: Stats,
        access_log: AccessLog,
        loop: asyncio.AbstractEventLoop,
        *,
        audit: Collector | None = None,
    ) -> None:
        clock = Clock(loop, self._sweep)
        self.context = Context(settings, ruleset, Recorder(stats, access_log), clock, loop, audit)
        self.pool = Pool(self.context)
        self.clients = Clients()
        kind = trace.TracedExchange if trace.is_wanted() else Exchange
        self._begin_exchange = partial(kind, self.context, self.pool)
        self._servers: list[asyncio.AbstractServer] = []

    @property
    def stats(self) -> Stats:
        """What is counted into."""
        return self.context.stats

    @property
    def ruleset(self) -> Ruleset:
        """The rules in force."""
        return self.context.ruleset

    @ruleset.setter
    def ruleset(self, ruleset: Ruleset) -> None:
        self.context.ruleset = ruleset

    async def watch(self) -> list[bytes]:
        """Return the exchanges that have ended since the last call; see `Watch`, which this call begins or prolongs."""
        context = self.context
        watch = context.watch
        if watch is None:
            watch = Watch(context.clock.now_s)
            context.use_watch(watch)
        return await watch.hand_over(context.clock.now_s)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept on sockets that are bound."""
        self.context.clock.start()
        for listening in sockets:
            is_unix = listening.family == socket.AF_UNIX
            create = self.context.loop.create_unix_server if is_unix else self.context.loop.create_server
            self._servers.append(await create(self._protocol, sock=listening, backlog=_BACKLOG))

    async def drain(self, timeout_s: float) -> int:
        """Stop accepting, let exchanges in flight end, break off what has not ended in time.

        Returns:
            How many exchanges were broken off.
        """
        self.context.drain()
        for server in self._servers:
            server.close()
        for client in self.clients:
            client.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.clients.all_left.wait()
        return self.close()

    def close(self) -> int:
        """End everything at once; return how many exchanges and tunnels were broken off."""
        self.context.drain()
        self.context.outbox.flush()
        for server in self._servers:
            server.close()
        broken_off = sum([client.give_up(DRAINED) is True for client in self.clients])
        self.pool.close()
        self.context.clock.stop()
        self.context.tell_dropped()
        self.context.recorder.flush()
        return broken_off

    async def probe_upstream(self) -> str | None:
        """Try to connect to the app: `None`, or why it cannot be reached."""
        try:
            async with asyncio.timeout(self.context.settings.connect_timeout_s):
                await self.pool.probe()
        except (OSError, TimeoutError) as error:
            failure = connect_failure(error)
            return f"{failure.text} ({failure.detail})"
        return None

    def _protocol(self) -> ClientConnection:
        return ClientConnection(self.context, self.clients, self._begin_exchange)

    def failed_by_itself(self) -> None:
        self.context.recorder.own_mistake("a tick")

    @guarded
    def _sweep(self) -> None:
        """On each tick: deadlines, connections at rest, the log; what fails keeps nothing else from being done."""
        now_s = self.context.clock.now_s
        for client in self.clients:
            if client.deadline_s <= now_s:
                client.timed_out()
            elif self.context.is_draining:
                client.drain_tunnel()
        self._do(self.pool.sweep)
        self._do(self.context.tell_dropped)
        if self.context.audit is not None:
            self._do(partial(self.context.audit.tick, now_s))
        if self.context.watch is not None and self.context.watch.is_over(now_s):
            self.context.use_watch(None)
        self._do(self.context.recorder.flush)

    @guarded
    def _do(self, step: Callable[[], None]) -> None:
        step()
