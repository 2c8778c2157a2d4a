"""What the app is sent: requests and bytes, framed as HTTP/1."""

from __future__ import annotations

import select

from proxy.gateway.connection import Connection
from proxy.gateway.context import Context
from proxy.message.framing import LAST_CHUNK, chunk
from proxy.message.request import RequestHead, render_request


class RequestWriter(Connection):
    """The sending half of a connection to the app.

    Args:
        context: what all connections of the worker share.
    """

    __slots__ = ("_context", "_head", "_rendered")

    def __init__(self, context: Context) -> None:
        super().__init__(context.outbox, context.loop)
        self._context = context
        self._head: RequestHead | None = None  # of the request under way, and its bytes
        self._rendered = b""

    def write_head(self, head: RequestHead, *, strips: bool) -> int:
        """Send a request's head; return how many conditional field lines were left out."""
        self._head = head
        self._rendered, stripped = render_request(head, strips_conditionals=strips)
        self.send(self._rendered)
        return stripped

    def write_end(self) -> None:
        """Send what ends the content."""
        if self._is_chunked():
            self.send(LAST_CHUNK)

    def is_unsent(self) -> bool:
        """Whether the request's head was sent in this turn of the loop, and has not left."""
        return bool(self.unwritten) and self.unwritten[0] is self._rendered

    def send_content(self, data: bytes) -> None:
        self.send(chunk(data) if self._is_chunked() else data)

    def is_stale(self) -> bool:
        """Ask the operating system whether the upstream has closed it, or sent what nobody asked for."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _is_chunked(self) -> bool:
        return self._head is not None and self._head.content_length is None
