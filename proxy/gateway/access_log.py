"""The access log: a line for each finished exchange, written in batches so that a line costs no system call."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import stat
import time
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Final, Literal, NamedTuple

Format = Literal["json", "text", "off"]

# Lines are rendered one after the other, when the code that does it is in the processor's cache: a request that renders
# its own costs a twentieth more CPU.
_BATCH_ENTRIES: Final = 64
_BATCH_BYTES: Final = 64 * 1024
_MAX_PENDING_BYTES: Final = 4 << 20  # a reader that stalls loses lines, not the proxy its memory
_CLOSE_S: Final = 1.0  # how long a slow reader has for the last lines
_STANDARD_OUTPUT: Final = 1

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    r"""What is known of a finished exchange; the fields of DESIGN section 7, in its order.

    Attributes:
        ts_s: seconds since the epoch at the end of the exchange.
        target: as text, see `message.target.readable`.
        status: sent to the client, 499 when it left before, 0 for none.
        upstream_status: 0 when the upstream gave none.
        upstream_s: from the request's head to the response's head, 0 for none.
        rule, policy, observed: names, empty for none.
        changed: field lines taken away, rewritten or written.
        error: empty for none.
    """

    ts_s: float
    method: str
    target: str
    status: int
    upstream_status: int
    duration_s: float
    upstream_s: float
    bytes_in: int
    bytes_out: int
    client: str
    rule: str
    policy: str
    changed: int
    error: str
    observed: str


class AccessLog:
    """Writes entries to a file descriptor.

    Args:
        form: `json` one object a line, `text` for people, `off`.
        path: a file to append to; standard output when `None`.

    Attributes:
        dropped: lines given up because the descriptor took none for too long.
    """

    def __init__(self, form: Format, path: Path | None = None) -> None:
        self._path = path
        self._render = {"json": _json, "text": _text, "off": None}[form]
        self._entries: list[Entry] = []  # not rendered yet
        self._lines: list[str] = []
        self._size = 0
        self._second = 0
        self._timestamp = ""
        self.dropped = 0
        self._fd = -1 if self._render is None else self._open()
        mode = os.fstat(self._fd).st_mode if self._render is not None else 0
        self._is_pipe = stat.S_ISFIFO(mode)
        # Of a socket (systemd's journal) the flag that says not to wait belongs to each call, not to the descriptor.
        self._socket = socket.socket(fileno=os.dup(self._fd)) if stat.S_ISSOCK(mode) else None

    def write(self, entry: Entry) -> None:
        """Add a line; it is on its way at the next `flush`, or when a batch is full."""
        if self._render is None:
            return
        self._entries.append(entry)
        if len(self._entries) >= _BATCH_ENTRIES:
            self._render_entries()
            if self._size >= _BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what is pending. What the descriptor does not take waits, up to a bound."""
        self._render_entries()
        if not self._lines:
            return
        data = "".join(self._lines).encode("ascii")
        self._lines.clear()
        self._size = 0
        while data:
            try:
                written = self._write(data)
            except OSError:
                self._keep(data)
                return
            data = data[written:]

    def _write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._is_pipe and len(data) > select.PIPE_BUF:
            # Several workers share it: only so much is written whole or not at all, pipe(7).
            data = data[: data.rfind(b"\n", 0, select.PIPE_BUF) + 1] or data
        return os.write(self._fd, data)

    def _render_entries(self) -> None:
        render = self._render
        if render is None:
            return
        entries, self._entries = self._entries, []
        for entry in entries:
            second = int(entry.ts_s)
            if second != self._second:
                self._second = second
                self._timestamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            line = render(f"{self._timestamp}.{int(entry.ts_s % 1 * 1000):03d}Z", entry)
            self._lines.append(line)
            self._size += len(line)

    def reopen(self) -> None:
        """Open the file again by its name, after a rotation; where that fails the old one goes on."""
        if self._path is None or self._render is None:
            return
        self.flush()
        try:
            opened = self._open()
        except OSError as error:
            _log.warning("access log %s cannot be opened again: %s", self._path, error.strerror)
            return
        os.close(self._fd)
        self._fd = opened

    def close(self) -> None:
        """Write what is pending and close the file."""
        self.flush()
        if self._lines:
            self._wait_for_slow_reader()
        if self._fd not in (-1, _STANDARD_OUTPUT):
            os.close(self._fd)
        if self._socket is not None:
            self._socket.close()
        self._fd = -1
        self._render = None
        self._lines.clear()

    def _wait_for_slow_reader(self) -> None:
        deadline_s = time.monotonic() + _CLOSE_S
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while self._lines and (left_s := deadline_s - time.monotonic()) > 0:
            before = self._lines[0]
            if poll.poll(left_s * 1000):
                self.flush()
            if self._lines == [before]:
                return  # a full disk, or nobody reads any more

    def _open(self) -> int:
        if self._path is None:
            return _open_standard_output()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _keep(self, data: bytes) -> None:
        """Keep what was not taken: whole lines, as the first may be a part of one, up to the bound."""
        end = len(data) if len(data) <= _MAX_PENDING_BYTES else data.rfind(b"\n", 0, _MAX_PENDING_BYTES) + 1
        self._lines.insert(0, data[:end].decode("ascii"))
        self.dropped += data.count(b"\n", end)


def _open_standard_output() -> int:
    """Open a pipe anew, so that it never blocks: the flag on the shared description would be others' too."""
    with contextlib.suppress(OSError):  # not ours to open, or no /proc: as it is
        if stat.S_ISFIFO(os.fstat(_STANDARD_OUTPUT).st_mode):
            return os.open(f"/proc/self/fd/{_STANDARD_OUTPUT}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return _STANDARD_OUTPUT


def _json(timestamp: str, entry: Entry) -> str:
    # By hand, because a dictionary through `json.dumps` costs three times as much, and unpacked, as to ask for each
    # attribute costs half as much again; method and client are plain text.
    method, target, status, upstream_status, duration_s, upstream_s = entry[1:7]
    bytes_in, bytes_out, client, rule, policy, changed, error, observed = entry[7:]
    return (
        f'{{"ts":"{timestamp}","method":"{method}","target":{quoted(target)},"status":{status or "null"},'
        f'"upstream_status":{upstream_status or "null"},"duration_s":{duration_s:.6f},'
        f'"upstream_s":{f"{upstream_s:.6f}" if upstream_s else "null"},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
        f'"client":"{client}","rule":{quoted(rule) if rule else "null"},"policy":{quoted(policy) if policy else "null"},'
        f'"changed":{changed},"error":{quoted(error) if error else "null"}{_observed(observed)}}}\n'
    )


def _observed(rule: str) -> str:
    return f',"observed":{quoted(rule)}' if rule else ""


def _text(timestamp: str, entry: Entry) -> str:
    """`2026-11-23T10:00:00.123Z 127.0.0.1 GET /api 200 1.2ms in=0 out=512 rule=ajax policy=classic changed=9`."""
    words = [
        timestamp,
        entry.client or "-",
        entry.method or "-",
        # One line, one entry: `quoted` escapes what a terminal or a log reader would act on.
        quoted(entry.target)[1:-1] or "-",
        str(entry.status or "-"),
        f"{entry.duration_s * 1000:.1f}ms",
        f"in={entry.bytes_in}",
        f"out={entry.bytes_out}",
    ]
    if entry.upstream_status and entry.upstream_status != entry.status:
        words.append(f"upstream={entry.upstream_status}")
    if entry.rule:
        words.append(f"rule={entry.rule} policy={entry.policy} changed={entry.changed}")
    if entry.observed:
        words.append(f"observed={entry.observed}")
    if entry.error:
        words.append(f"error={quoted(entry.error)}")
    return " ".join(words).encode("ascii", "backslashreplace").decode() + "\n"
