"""Frames between the supervisor and a worker, over a socket pair that nobody else can reach."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from proxy.stats import Snapshot

if TYPE_CHECKING:
    from proxy.settings import Settings

_log = logging.getLogger(__name__)

_LENGTH: Final = struct.Struct("!I")


Question = Literal["snapshot", "audit", "recent"]
"""What a worker answers with a report of this kind."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first frame to a worker: its settings and rules."""

    settings: Settings
    rules: bytes
    audit_secret: bytes


@dataclass(frozen=True, slots=True)
class UseRules:
    """Rules to put in force; the supervisor has checked and tested them."""

    rules: bytes


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell a worker to finish its exchanges within this time and end."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """A message from a worker: that it serves, the answer to a question, or that it has drained.

    Attributes:
        audit: evidence, also sent unasked; `resets` says how often the worker had reset it before.
        aborted: exchanges that did not end in time.
    """

    kind: Question | Literal["serving", "drained"]
    snapshot: Snapshot | None = None
    audit: Sequence[bytes] = ()
    resets: int = 0
    recent: Sequence[bytes] = ()
    aborted: int = 0


Order = Start | UseRules | Drain | Question | Literal["reset-audit", "reopen-log"]


class Channel:
    """One end of the channel. Only this program writes to it, so `pickle` is safe."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Open a channel on one socket of a pair."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, frame: Order | Report) -> None:
        """Write a frame. If the peer is gone, `receive` reports it."""
        if not self._writer.is_closing():
            data = pickle.dumps(frame)
            self._writer.write(_LENGTH.pack(len(data)) + data)

    async def receive(self) -> Order | Report | None:
        """Read the next frame; `None` when the peer is gone or sent what cannot be read."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            data = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        try:
            frame: Order | Report = pickle.loads(data)  # noqa: S301 - sent by the parent or a child of this process
        except Exception:  # noqa: BLE001 - what `pickle` raises has no common class
            _log.exception("cannot read a frame; treating its sender as gone")
            return None
        return frame

    async def close(self) -> None:
        """Write what is pending and close."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
