"""What follows a 101: bytes both ways as they come, until both directions have ended or a connection is gone."""

from __future__ import annotations

from enum import Enum
from typing import Final

from proxy.gateway import failures
from proxy.gateway.context import Context
from proxy.gateway.failures import Failure
from proxy.gateway.record import Record
from proxy.gateway.sides import ClientSide, TunnelListener, UpstreamSide
from proxy.message.websocket import GOING_AWAY, GOING_AWAY_FROM_CLIENT, FrameBoundary


class Phase(Enum):
    """Where a tunnel stands.

    | phase | silence | one half-closes | a reset, or a failure |
    |---|---|---|---|
    | OPEN | both are reset | passed on; HALF_CLOSED | both are reset |
    | HALF_CLOSED | both are reset | both close when all has left; DONE | both are reset |
    """

    OPEN = "open"
    HALF_CLOSED = "half-closed"
    DONE = "done"


_OPEN: Final = Phase.OPEN
_HALF_CLOSED: Final = Phase.HALF_CLOSED
_DONE: Final = Phase.DONE


class Tunnel(TunnelListener):
    """Relays bytes between two sides that have switched protocols.

    Args:
        context: whose settings bound its silence, and whose recorder takes the record when it ends.
        client, upstream: its sides, which the caller tells of it.
        record: of the exchange that it follows.
        is_websocket: its bytes are frames, RFC 6455 section 5.
    """

    __slots__ = ("_client", "_context", "_phase", "_received", "_record", "_sent", "_upstream")

    def __init__(
        self,
        context: Context,
        client: ClientSide,
        upstream: UpstreamSide,
        record: Record,
        *,
        is_websocket: bool = False,
    ) -> None:
        self._context = context
        self._client = client
        self._upstream = upstream
        self._record = record
        self._phase = _OPEN
        self._sent = FrameBoundary() if is_websocket else None  # by the client
        self._received = FrameBoundary() if is_websocket else None
        record.is_tunnel = True
        context.stats.tunnels += 1
        context.stats.tunnels_total += 1
        self._touch()

    def from_client(self, data: bytes) -> None:
        self._record.bytes_in += len(data)
        if self._sent is not None:
            self._sent.feed(data)
        self._upstream.send_bytes(data)
        self._touch()

    def from_upstream(self, data: bytes | memoryview) -> None:
        self._record.bytes_out += len(data)
        if self._received is not None:
            self._received.feed(data)
        self._client.send_bytes(data)
        self._touch()

    def room(self) -> int:
        return self._client.room()

    def has_unsent_content(self) -> bool:
        return self._client.has_unsent_content()

    def client_half_closed(self) -> bool:
        return self._is_first_end() and self._upstream.half_close()

    def upstream_half_closed(self) -> bool:
        return self._is_first_end() and self._client.half_close()

    def upstream_gone(self, *, was_reset: bool) -> None:
        if was_reset:
            self.reset(failures.UPSTREAM_CLOSED)
        elif self._phase is not _DONE:
            self._finish(None)
            self._client.close()

    def client_left(self) -> None:
        if self._phase is not _DONE:
            self._upstream.abort()
            self._finish(None)

    def timed_out(self) -> None:
        self.reset(failures.UPSTREAM_STALLED.with_detail("idle tunnel"))

    def fail(self, failure: Failure) -> None:
        self.reset(failure)

    def reset(self, failure: Failure) -> None:
        if self._phase is not _DONE:
            self._upstream.abort()
            self._finish(failure)
            self._client.reset()

    def drain(self) -> None:
        """End it if nothing is under way: a WebSocket between two frames, anything else after a tick without a byte."""
        if self._phase is _DONE:
            return
        if self._sent is None or self._received is None:
            idle_timeout_s = self._context.settings.idle_timeout_s
            if self._client.deadline_s >= self._context.clock.now_s + idle_timeout_s:
                return
        elif self._phase is _OPEN:
            if not (self._sent.is_known and self._received.is_known):
                return
            self._client.send_bytes(GOING_AWAY)
            self._upstream.send_bytes(GOING_AWAY_FROM_CLIENT)
        self._upstream.close()
        self._finish(failures.DRAINED)
        self._client.close()

    def pause_response(self) -> None:
        self._upstream.pause_reading()

    def resume_response(self) -> None:
        self._touch()
        self._upstream.resume_reading()

    def pause_request(self) -> None:
        self._client.pause_reading("upstream")

    def resume_request(self) -> None:
        self._client.resume_reading("upstream")

    def _is_first_end(self) -> bool:
        """Note that a direction has ended; with the second one, both connections close."""
        if self._phase is _OPEN:
            self._phase = _HALF_CLOSED
            return True
        if self._phase is _HALF_CLOSED:
            self._upstream.close()
            self._finish(None)
            self._client.close()
        return False

    def _touch(self) -> None:
        self._client.deadline_s = self._context.clock.now_s + self._context.settings.idle_timeout_s

    def _finish(self, failure: Failure | None) -> None:
        self._phase = _DONE
        self._context.recorder.finish(self._record, failure)
