"""The server of the admin application: limits connections and their duration, and logs one line for what is not HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import Final, cast

from aiohttp import web

from proxy.admin.answers import json_answer
from proxy.admin.app import Admin, finished
from proxy.admin.state import AdminState

# Enough for probes, scrapes and open pages. A new connection replaces the one that has been idle for longest.
_MAX_CONNECTIONS: Final = 64
_HEAD_S: Final = 5.0  # from the connection to the end of its first request's head
_ANSWER_S: Final = 30.0  # to compute an answer
_REST_S: Final = 15.0  # to read an answer and to ask again
_MAX_LOGGED: Final = 200
# Bytes of a request line: a question to explain holds all fields of a request and a response.
_MAX_LINE: Final = 1 << 16

_log = logging.getLogger(__name__)


async def start(state: AdminState, listening: Iterable[socket.socket]) -> web.ServerRunner:
    """Serve on bound sockets until `cleanup()` of the returned runner."""
    runner = web.ServerRunner(AdminServer(Admin(state)), handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    for one in listening:
        await web.SockSite(runner, one).start()
    return runner


class AdminServer(web.Server):
    """aiohttp's low-level server, with limits.

    Attributes:
        resting: idle connections, longest idle first.
        open: all connections.
    """

    def __init__(self, admin: Admin) -> None:
        # A handler is cancelled when its client leaves.
        super().__init__(
            self._serve,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=_REST_S,
            lingering_time=0,
            max_line_size=_MAX_LINE,
        )
        self._admin = admin
        self.resting: dict[_Connection, None] = {}
        self.open: set[_Connection] = set()

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self)

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.wait(_ANSWER_S)
        try:
            return await self._admin.answer(request)
        finally:
            connection.rest(_REST_S)


class _Connection(web.RequestHandler):
    """A connection with a deadline; aiohttp has none for a request head or for a client that reads nothing."""

    __slots__ = ("_deadline", "_is_refused", "_server")

    def __init__(self, server: AdminServer) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **server._kwargs)  # noqa: SLF001 - aiohttp has no other way to hand its options to a handler of one's own
        self._server = server
        self._deadline: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        if len(server.open) >= _MAX_CONNECTIONS and server.resting:
            next(iter(server.resting)).abort()
        if len(server.open) >= _MAX_CONNECTIONS:
            self._is_refused = True
            cast("asyncio.Transport", transport).abort()  # uvloop's transports inherit from no asyncio class
            return
        server.open.add(self)
        super().connection_made(transport)
        self.rest(_HEAD_S)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._is_refused:
            return
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)

    def abort(self) -> None:
        """Close at once."""
        self._forget()
        if self.transport is not None:
            self.transport.abort()

    def wait(self, seconds: float) -> None:
        """Mark as busy, and abort after this time."""
        self._server.resting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.abort)

    def rest(self, seconds: float) -> None:
        """Mark as idle, and abort after this time."""
        if self in self._server.open:
            self.wait(seconds)
            self._server.resting[self] = None

    def _forget(self) -> None:
        self._server.open.discard(self)
        self._server.resting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp cannot parse, and log one line."""
        why = " ".join(str(message or exc or "").split())[:_MAX_LOGGED]
        _log.warning("admin listener: %d to %s: %s", status, request.remote or "a Unix socket", why)
        response = finished(json_answer({"error": "this is not a request that can be read"}, status))
        response.force_close()
        return response
