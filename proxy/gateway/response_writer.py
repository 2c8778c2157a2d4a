"""What a client is sent: heads, content and bytes, framed as HTTP/1; and whether it takes them."""

from __future__ import annotations

import socket
import struct
from abc import abstractmethod
from typing import Final

from proxy.gateway.connection import Connection
from proxy.gateway.context import Context
from proxy.gateway.sides import UpstreamSide
from proxy.message.framing import chunk
from proxy.message.request import RequestHead
from proxy.message.response import (
    OutgoingHead,
    ResponseHead,
    render_informational,
    render_response,
    render_switch,
)
from proxy.message.rewrite import Treatment

NEVER: Final = float("inf")

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class ResponseWriter(Connection):
    """The sending half of a client's connection.

    Args:
        context: what all connections of the worker share.

    Attributes:
        deadline_s: when `timed_out` is due, by the worker's clock.
        outgoing: the head of the response that is under way.
        pinned: the upstream's connection that lives and dies with this one.
    """

    __slots__ = (
        "_context",
        "_head",
        "_unsent",
        "_unsent_since_s",
        "deadline_s",
        "outgoing",
        "pinned",
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context.outbox, context.loop)
        self._context = context
        self._head: RequestHead | None = None  # of the request that is being answered
        self.outgoing: OutgoingHead | None = None
        self._unsent = 0  # bytes that wait for the client to take them, and since when they are so many
        self._unsent_since_s = 0.0
        self.deadline_s = NEVER
        self.pinned: UpstreamSide | None = None

    @abstractmethod
    def may_keep_alive(self, head: RequestHead) -> bool:
        """Whether the connection may serve another request after this one."""

    def send_informational(self, response: ResponseHead) -> None:
        if self._head is not None and self._head.minor == 1:
            self.send(render_informational(response))

    def send_head(self, response: ResponseHead, treatment: Treatment) -> OutgoingHead:
        head = self._head
        assert head is not None, "there is a request"
        self.outgoing = outgoing = render_response(
            response,
            treatment,
            method=head.method,
            client_minor=head.minor,
            keep_alive=self.may_keep_alive(head),
            now=self._context.clock.date,
            hides_validators=head.matches_any,
        )
        self.send(outgoing.data)
        return outgoing

    def send_content(self, data: bytes) -> None:
        outgoing = self.outgoing
        self.send(chunk(data) if outgoing is not None and outgoing.is_chunked else data)

    def send_large_content(self, data: bytes | memoryview) -> None:
        self.send_now(data)

    def has_unsent_content(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    def send_switch(self, response: ResponseHead, asked_for: bytes) -> None:
        self.send(render_switch(response, asked_for))

    def reset_transport(self) -> None:
        """End the connection with a reset."""
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def note_progress(self) -> None:
        """Look whether the client has taken some of what was written."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._unsent_since_s = unsent, self._context.clock.now_s

    def is_slow_only(self) -> bool:
        """Whether the client took some of what waits for it within the idle time-out, as last noted."""
        waited_s = self._context.clock.now_s - self._unsent_since_s
        return self._unsent > 0 and waited_s < self._context.settings.idle_timeout_s
