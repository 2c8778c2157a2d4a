"""What the connections to both sides share: batched writes, reasons to pause reading, and turns.

The event loop reads a connection up to 32 times in one turn, 256 KB each, as long as there is more to read and nobody
pauses it. So each connection has a budget for its turn: when it is spent, reading pauses, what was read and is not
yet worked on waits, and both go on in the next turn, after all other connections had theirs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from proxy.gateway.guard import guarded
from proxy.gateway.sides import PauseReason
from proxy.gateway.write_batch import Outbox, Sender

_log = logging.getLogger(__name__)

# Moving a MiB takes about half a millisecond.
TURN_BYTES: Final = 1024 * 1024
# A tunnel may keep both of its connections busy: a turn of 0.35 ms instead of 0.9, at the same cost for each byte.
TUNNEL_TURN_BYTES: Final = 256 * 1024
# A read of fewer bytes is the last of its turn: the loop reads on only after one that filled its buffer.
FULL_READ_BYTES: Final = 48 * 1024


class Connection(Sender):
    """A connection whose reading any number of reasons may pause."""

    __slots__ = ("_later", "_loop", "_pause_reasons", "_taken")

    def __init__(self, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(outbox)
        self._loop = loop
        self._pause_reasons: set[PauseReason] = set()
        self._later = b""  # read, and left for the next turn
        self._taken = 0  # bytes, since others had their turn for certain

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        raise NotImplementedError

    def send_bytes(self, data: bytes | memoryview) -> None:
        """Send what is no content of a message: a tunnel's bytes."""
        self.send(data)

    def half_close(self) -> bool:
        """Say that nothing more is sent, after what was; return whether the transport can, which TLS cannot."""
        if not self.transport.can_write_eof():
            return False
        self.push()
        self.transport.write_eof()
        return True

    def failed_by_itself(self) -> None:
        _log.exception("serving a connection failed")
        try:
            self.answer_own_mistake()
        except Exception:  # noqa: BLE001 - what is left is to end the connection, which ends what depends on it
            _log.exception("answering a mistake of this program failed")
            self.transport.abort()

    def answer_own_mistake(self) -> None:
        """Fail what is under way, or end the connection, after a mistake of this program."""
        raise NotImplementedError

    def pause_reading(self, reason: PauseReason = "client") -> None:
        """Read no further until `resume_reading` was called for each reason."""
        if not self._pause_reasons and not self.transport.is_closing():
            self.transport.pause_reading()
        self._pause_reasons.add(reason)

    def resume_reading(self, reason: PauseReason = "client") -> None:
        """Take a reason back; what was read comes before what will be."""
        if reason not in self._pause_reasons:
            return
        self._pause_reasons.discard(reason)
        if self._pause_reasons or self.transport.is_closing():
            return
        if self._later:
            self.end_turn(self._later)
        else:
            self.transport.resume_reading()

    def is_paused_by(self, reason: PauseReason) -> bool:
        """Whether this is a reason why nothing is read."""
        return reason in self._pause_reasons

    def count_full_read(self, size: int, budget: int) -> None:
        """Count a read of at least `FULL_READ_BYTES`; with the last that the budget allows, the turn ends."""
        self._taken += size
        if self._taken >= budget:
            self.end_turn()

    def end_turn(self, later: bytes = b"") -> None:
        """Let all other connections have their turn before this one reads on.

        Args:
            later: what has been read and is given to `data_received` then.
        """
        self._taken = 0
        self._later = later
        if "turn" not in self._pause_reasons:
            self.pause_reading("turn")
            self._loop.call_soon(self._next_turn)

    def take_later(self) -> bytes:
        """Take back what waits for the next turn."""
        later, self._later = self._later, b""
        return later

    @guarded
    def _next_turn(self) -> None:
        self._pause_reasons.discard("turn")
        if self._pause_reasons or self.transport.is_closing():
            return  # the last reason that is taken back goes on with what is left
        if self._later:
            self.data_received(self.take_later())
        if not self._pause_reasons and not self.transport.is_closing():
            self.transport.resume_reading()
