"""Upstream connections: opened when needed, kept for a short rest, never lent twice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Coroutine
from typing import Final

from proxy.gateway import failures
from proxy.gateway.context import Context
from proxy.gateway.dialing import Dialer
from proxy.gateway.habit import SHORT_REST_S, Habit
from proxy.gateway.sides import Attempt, UpstreamWaiter
from proxy.gateway.upstream import UpstreamConnection

_log = logging.getLogger(__name__)

_MAX_SPARE: Final = 32  # connections at rest beyond what is in flight, while few may be used
_RETRY_PAUSE_S: Final = 0.1  # what a server that is being restarted may need to listen again


class Pool:
    """The upstream connections of a worker.

    Args:
        context: whose settings and clock it uses.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._idle: deque[UpstreamConnection] = deque()  # longest at rest first
        self._attempts: set[asyncio.Task[None]] = set()
        self._habits = (Habit(), Habit())  # after requests without content, and with
        self._dialer = Dialer(context.settings)

    def take(self, *, must_be_fresh: bool) -> UpstreamConnection | None:
        """Take a resting connection, the one used last first.

        Args:
            must_be_fresh: the request cannot be sent twice, and a race that is lost means a 502. So take only a connection
                that has stood for a moment, or one that the app is known to keep, and ask the operating system first
                whether it is closed by now (a system call).
        """
        if must_be_fresh:
            return self._take_fresh()
        while self._idle:
            connection = self._idle.pop()
            if self._is_usable(connection):
                self._context.stats.upstream_reused_total += 1
                return connection
            self._discard(connection)
        return None

    def put(self, connection: UpstreamConnection, *, after_content: bool = False) -> None:
        """Let a connection rest until it is needed or too old.

        Args:
            after_content: its last request had content.
        """
        if not self._context.upstream_rest_s or connection.transport.is_closing():
            connection.abort()
            return
        now_s = connection.idle_since_s = self._context.clock.now_s
        if connection.habit is not None:
            connection.habit.was_kept = True
        connection.habit = habit = self._habits[after_content]
        if now_s < habit.feared_until_s and len(self._idle) > self._context.stats.in_flight + _MAX_SPARE:
            connection.abort()  # one more for each request that takes a new one
        else:
            self._idle.append(connection)

    def was_closed(self, connection: UpstreamConnection) -> None:
        """The app has closed it, while it rested or as the next request met it."""
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._note_end(connection)

    def connect(self, waiter: UpstreamWaiter) -> Attempt:
        """Open a connection for somebody, who is told by `upstream_ready` or `upstream_unavailable`."""
        return self._spawn(self._connect(waiter))

    def sweep(self) -> None:
        """Close what has rested too long."""
        oldest_s = self._context.clock.now_s - self._context.upstream_rest_s
        while self._idle and self._idle[0].idle_since_s < oldest_s:
            self._idle.popleft().abort()

    def close(self) -> None:
        """Close all that rest and give up all attempts."""
        for attempt in self._attempts:
            attempt.cancel()
        while self._idle:
            self._idle.pop().abort()

    async def open(self) -> UpstreamConnection:
        """Open a connection.

        Raises:
            OSError, ssl.SSLError: it cannot be had.
        """
        connection = UpstreamConnection(self._context, self)
        try:
            await self._dialer.dial(connection)
        except BaseException:
            # Cancelled just as the connection was made, uvloop closes it and does not tell the protocol.
            connection.count_out()
            raise
        return connection

    async def probe(self) -> None:
        """Open a connection that is no traffic, so counted nowhere, and end it.

        Raises:
            OSError, ssl.SSLError: it cannot be had.
        """
        transport = await self._dialer.dial(asyncio.Protocol())
        transport.abort()

    def _take_fresh(self) -> UpstreamConnection | None:
        now_s = self._context.clock.now_s
        for index in reversed(range(len(self._idle))):
            connection = self._idle[index]
            habit = connection.habit
            is_kept = habit is not None and habit.is_trusted(now_s)
            if not is_kept and now_s - connection.idle_since_s < SHORT_REST_S:
                continue
            del self._idle[index]
            if self._is_usable(connection) and not connection.is_stale():
                self._context.stats.upstream_reused_total += 1
                return connection
            self._discard(connection)
        return None

    def _is_usable(self, connection: UpstreamConnection) -> bool:
        return not self._is_old(connection) and not connection.transport.is_closing()

    def _is_old(self, connection: UpstreamConnection) -> bool:
        return connection.idle_since_s < self._context.clock.now_s - self._context.upstream_rest_s

    def _discard(self, connection: UpstreamConnection) -> None:
        connection.abort()
        if not self._is_old(connection):  # else it is the pool that ends it
            self._note_end(connection)

    def _note_end(self, connection: UpstreamConnection) -> None:
        if connection.habit is not None:
            connection.habit.note_end(self._context.clock.now_s, connection.idle_since_s)

    async def _connect(self, waiter: UpstreamWaiter) -> None:
        try:
            connection = await self._open_in_time()
        except (OSError, ssl.SSLError, TimeoutError) as error:
            waiter.upstream_unavailable(failures.connect_failure(error))
        except Exception:  # noqa: BLE001 - a mistake of this program; the request is answered
            _log.exception("connecting to the app failed")
            waiter.upstream_unavailable(failures.INTERNAL)
        else:
            self._hand_over(connection, waiter)

    async def _open_in_time(self) -> UpstreamConnection:
        """Open a connection; if that fails at once, try a second time.

        Nothing was sent, so any request may be tried again; a time-out has taken long enough.
        """
        timeout_s = self._context.settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self.open()
        except TimeoutError:
            raise
        except (OSError, ssl.SSLError):
            self._context.stats.retries_total += 1
        await asyncio.sleep(_RETRY_PAUSE_S)
        async with asyncio.timeout(timeout_s):
            return await self.open()

    def _hand_over(self, connection: UpstreamConnection, waiter: UpstreamWaiter) -> None:
        try:
            if connection.transport.is_closing():  # it left, or spoke unasked, before anyone listened
                waiter.upstream_unavailable(failures.UPSTREAM_CLOSED)
            else:
                waiter.upstream_ready(connection)
        except Exception:  # noqa: BLE001 - as in `_connect`
            _log.exception("handing a connection over failed")
            connection.abort()
            waiter.upstream_unavailable(failures.INTERNAL)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._attempts.add(task)
        task.add_done_callback(self._attempt_ended)
        return task

    def _attempt_ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled() and (error := attempt.exception()) is not None:
            self._context.recorder.own_mistake("telling of a connection", error)
