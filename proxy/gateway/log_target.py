"""Where log lines go: a file, pipe, socket or terminal that stalls never holds up whoever writes to it.

A pipe and a socket can be told not to wait, and are written to where they stand. Everything else (a file may be on a file
system that hangs, a terminal may be stopped) is opened and written to by a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import stat
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Literal, Protocol

# What several workers write to one pipe stays whole up to this size: callers keep lines below it.
MAX_LINE_BYTES: Final = select.PIPE_BUF

STANDARD_OUTPUT: Final = 1
STANDARD_ERROR: Final = 2

_MAX_PENDING_BYTES: Final = 4 << 20  # a reader that stalls costs lines, not the proxy its memory
_MAX_TURN_BYTES: Final = 256 * 1024  # written to a pipe in one turn of the event loop: under 1 ms
_OPEN_S: Final = 1.0  # an open that takes longer goes on beside the start
_CLOSE_S: Final = 1.0  # a slow reader has so long for the last lines
_RETRY_S: Final = 0.1  # until a write that failed (a full disk) is tried again

_log = logging.getLogger(__name__)


class LogTarget(Protocol):
    """A place for lines. No method waits, but for `close`, which waits a moment.

    Attributes:
        batch_bytes: so much at a time is best.
        dropped: lines given up because the target took none for too long.
    """

    batch_bytes: int

    @property
    def dropped(self) -> int: ...

    def write(self, data: bytes) -> None:
        """Write whole lines after those that still wait; without any, try those again."""

    def reopen(self) -> None:
        """Open a file again by its name, after a rotation; where that fails the old one goes on."""

    def close(self) -> None:
        """Write what waits, as far as the target takes it soon."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A descriptor; a standard stream is not ours to close."""

    descriptor: int
    is_pipe: bool = False
    is_standard: bool = False

    def close(self) -> None:
        if not self.is_standard:
            os.close(self.descriptor)


def open_target(path: Path | None) -> LogTarget:
    """Open a file, FIFO or device by its name; `None` is standard output.

    Raises:
        OSError: it cannot be opened. An open that hangs is no error: lines wait for it, up to a bound.
    """
    if path is None:
        return _standard_stream(STANDARD_OUTPUT)
    opening = _open_in_thread(path)
    try:
        opened = opening.result(_OPEN_S)
    except TimeoutError:
        _log.warning("log %s is not open after %gs; lines wait for it", path, _OPEN_S)
        return _Threaded(opening, path)
    if opened.is_standard:
        return _standard_stream(opened.descriptor)
    return _NonBlocking(opened.descriptor) if opened.is_pipe else _Threaded(opening, path)


def standard_error() -> LogTarget:
    """Standard error, for lines from any thread."""
    return _Threaded(_already_open(STANDARD_ERROR))


def quoted_within(text: str, limit: int, *, keeps: Literal["start", "end"] = "start") -> str:
    """Return a text as JSON of at most `limit` bytes, and how many characters of a longer one are left out."""
    line = quoted(text)
    if len(line) <= limit:
        return line
    kept = text[:limit] if keeps == "start" else text[-limit:]
    while len(line) > limit:
        more = f"[{len(text) - len(kept)} more]"
        line = quoted(f"{kept}...{more}" if keeps == "start" else f"{more}...{kept}")
        # A character takes up to twelve bytes. It is cut between characters, as half an escape is no JSON.
        size = min(len(kept) - 1, len(kept) * limit // len(line))
        kept = kept[:size] if keeps == "start" else kept[len(kept) - size :]
    return line


def _standard_stream(descriptor: int) -> LogTarget:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return _NonBlocking(os.dup(descriptor), is_socket=True)
    if stat.S_ISFIFO(mode):
        # Opened anew, as the flag on the shared description would be others' too.
        with contextlib.suppress(OSError):  # not ours to open, no reader any more, or no /proc
            return _NonBlocking(
                os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            )
    return _Threaded(_already_open(descriptor))


def _already_open(descriptor: int) -> Future[_Opened]:
    opening: Future[_Opened] = Future()
    is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    opening.set_result(_Opened(descriptor, is_pipe=is_pipe, is_standard=True))
    return opening


def _open_in_thread(path: Path) -> Future[_Opened]:
    """Open in a thread that the end of the process does not wait for."""
    opening: Future[_Opened] = Future()

    def run() -> None:
        try:
            opening.set_result(_open(path))
        except OSError as error:
            opening.set_exception(error)

    threading.Thread(target=run, name="log-open", daemon=True).start()
    return opening


def _open(path: Path) -> _Opened:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    is_pipe = False
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        is_pipe = stat.S_ISFIFO(found.st_mode)
        if is_pipe or stat.S_ISSOCK(found.st_mode):
            # `/dev/stdout` and `/proc/self/fd/1`: a socket cannot be opened by such a name, a pipe not by everybody.
            for descriptor in (STANDARD_OUTPUT, STANDARD_ERROR):
                with contextlib.suppress(OSError):
                    if os.path.samestat(found, os.fstat(descriptor)):
                        return _Opened(descriptor, is_pipe=is_pipe, is_standard=True)
        if is_pipe:
            # For reading too, fifo(7): then it opens without a reader, and readers may come and go.
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
    return _Opened(os.open(path, flags, 0o640), is_pipe=is_pipe)


def _within_pipe_buf(data: bytes | bytearray) -> int:
    """How much to write at once to what others write to as well: whole lines.

    Only so much is written whole or not at all, pipe(7).
    """
    return data.rfind(b"\n", 0, MAX_LINE_BYTES) + 1 or MAX_LINE_BYTES


def _whole_lines(data: bytes, room: int) -> int:
    """How much of some lines fits."""
    return len(data) if len(data) <= room else data.rfind(b"\n", 0, max(room, 0)) + 1


class _NonBlocking:
    """A pipe, FIFO or socket whose descriptor is ours."""

    batch_bytes = 64 * 1024  # what a pipe holds

    def __init__(self, descriptor: int, *, is_socket: bool = False) -> None:
        self._descriptor = descriptor
        # Of a socket the flag that says not to wait belongs to each call, not to the description, which others share.
        self._socket = socket.socket(fileno=descriptor) if is_socket else None
        self._pending = bytearray()
        self.dropped = 0

    def write(self, data: bytes) -> None:
        end = _whole_lines(data, _MAX_PENDING_BYTES - len(self._pending))
        self._pending += data[:end]
        self.dropped += data.count(b"\n", end)
        self._write_pending()

    def _write_pending(self) -> None:
        pending, left = self._pending, _MAX_TURN_BYTES
        with contextlib.suppress(OSError):  # full, or the reader has left
            while pending and left > 0:
                piece = pending[: _within_pipe_buf(pending)]
                if self._socket is not None:
                    written = self._socket.send(piece, socket.MSG_DONTWAIT)
                else:
                    written = os.write(self._descriptor, piece)
                del pending[:written]
                left -= written

    def reopen(self) -> None:
        """Do nothing: what is no file is not rotated."""

    def close(self) -> None:
        deadline_s = time.monotonic() + _CLOSE_S
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        before = -1
        while (
            self._pending and len(self._pending) != before and (left_s := deadline_s - time.monotonic()) > 0
        ):
            before = len(self._pending)
            if poll.poll(left_s * 1000):
                self._write_pending()
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)


class _Threaded:
    """Anything that may block, with a thread that does nothing else.

    Args:
        opening: the descriptor, now or later.
        path: by which it is opened again; `None` where it is not.
    """

    # Each order makes two threads take turns, so fewer and larger ones cost less.
    batch_bytes = 256 * 1024

    def __init__(self, opening: Future[_Opened], path: Path | None = None) -> None:
        self._opening = opening
        self._path = path
        self._orders: SimpleQueue[bytes | Literal["reopen", "close"]] = SimpleQueue()
        # Each number has one writer: of the first two it is the caller, of the others the thread.
        self._accepted_bytes = 0
        self._refused = 0
        self._done_bytes = 0
        self._lost = 0
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    def write(self, data: bytes) -> None:
        end = _whole_lines(data, _MAX_PENDING_BYTES - (self._accepted_bytes - self._done_bytes))
        self._refused += data.count(b"\n", end)
        if end:
            self._accepted_bytes += end
            self._orders.put(data[:end])

    def reopen(self) -> None:
        if self._path is not None:
            self._orders.put("reopen")

    def close(self) -> None:
        self._is_closing.set()
        self._orders.put("close")
        if self._opening.done() or self._accepted_bytes > self._done_bytes:
            self._thread.join(_CLOSE_S)

    # In the thread

    def _run(self) -> None:
        try:
            opened = self._opening.result()
        except OSError as error:
            _log.warning("log %s cannot be opened: %s", self._path, error.strerror)
            opened = None
        while (order := self._orders.get()) != "close":
            if order == "reopen":
                opened = self._open_again(opened)
                continue
            if opened is None:
                self._lost += order.count(b"\n")
            else:
                self._write_out(opened, order)
            self._done_bytes += len(order)
        if opened is not None:
            opened.close()

    def _write_out(self, opened: _Opened, data: bytes) -> None:
        has_failed = False
        while data:
            try:
                # Each failed turn of a full disk is tried again: once there is room the lines go on where they stopped.
                written = os.write(
                    opened.descriptor, data[: _within_pipe_buf(data)] if opened.is_pipe else data
                )
            except OSError as error:
                if not has_failed:
                    _log.warning("log %s cannot be written: %s", self._path or "", error.strerror)
                has_failed = True
                if self._is_closing.wait(_RETRY_S):
                    self._lost += data.count(b"\n")
                    return
            else:
                data = data[written:]

    def _open_again(self, before: _Opened | None) -> _Opened | None:
        assert self._path is not None
        try:
            opened = _open(self._path)
        except OSError as error:
            _log.warning("log %s cannot be opened again: %s", self._path, error.strerror)
            return before
        if before is not None:
            before.close()
        return opened
