"""The access log: a line for each finished exchange, written in batches so that a line costs no system call."""

from __future__ import annotations

from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Final, Literal, NamedTuple

from proxy.gateway.log_target import LogTarget, open_target, quoted_within

Format = Literal["json", "text", "off"]

# Lines are rendered one after the other, when the code that does it is in the processor's cache: a request that renders
# its own costs a twentieth more CPU.
_BATCH_ENTRIES: Final = 64
_BATCH_BYTES: Final = 64 * 1024

# A line fits into PIPE_BUF (4096 bytes): what is written whole to a pipe or socket that several workers share.
_MAX_TARGET: Final = 2048
_MAX_ERROR: Final = 512
_MAX_METHOD: Final = 64


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
    """Renders entries and hands them to a target, in batches.

    Args:
        form: `json` one object a line, `text` for people, `off`.
        path: a file to append to; standard output when `None`.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, form: Format, path: Path | None = None) -> None:
        self._render = {"json": _json, "text": _text, "off": None}[form]
        self._target: LogTarget | None = None if form == "off" else open_target(path)
        self._entries: list[Entry] = []  # not rendered yet
        self._lines: list[str] = []
        self._size = 0
        self._second = 0
        self._timestamp = ""

    @property
    def dropped(self) -> int:
        """Lines given up because the target took none for too long."""
        return 0 if self._target is None else self._target.dropped

    def write(self, entry: Entry) -> None:
        """Add a line; it is on its way at the next `flush`, or when a batch is full."""
        if self._target is None:
            return
        self._entries.append(entry)
        if len(self._entries) >= _BATCH_ENTRIES:
            self._render_entries()
            if self._size >= _BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Hand over what is pending; the target tries again what it still has."""
        if self._target is None:
            return
        self._render_entries()
        self._target.write("".join(self._lines).encode("ascii"))
        self._lines.clear()
        self._size = 0

    def reopen(self) -> None:
        """Open the file again by its name, after a rotation; where that fails the old one goes on."""
        if self._target is not None:
            self.flush()
            self._target.reopen()

    def close(self) -> None:
        """Write what is pending, as far as the target takes it soon, and end."""
        if self._target is not None:
            self.flush()
            self._target.close()
            self._target = None

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


def _json(timestamp: str, entry: Entry) -> str:
    # By hand, because a dictionary through `json.dumps` costs three times as much, and unpacked, as to ask for each
    # attribute costs half as much again; method and client are plain text.
    method, target, status, upstream_status, duration_s, upstream_s = entry[1:7]
    bytes_in, bytes_out, client, rule, policy, changed, error, observed = entry[7:]
    return (
        f'{{"ts":"{timestamp}","method":"{method[:_MAX_METHOD]}","target":{quoted_within(target, _MAX_TARGET)},"status":{status or "null"},'
        f'"upstream_status":{upstream_status or "null"},"duration_s":{duration_s:.6f},'
        f'"upstream_s":{f"{upstream_s:.6f}" if upstream_s else "null"},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
        f'"client":"{client}","rule":{quoted(rule) if rule else "null"},"policy":{quoted(policy) if policy else "null"},'
        f'"changed":{changed},"error":{quoted_within(error, _MAX_ERROR) if error else "null"}{_observed(observed)}}}\n'
    )


def _observed(rule: str) -> str:
    return f',"observed":{quoted(rule)}' if rule else ""


def _text(timestamp: str, entry: Entry) -> str:
    """`2026-11-23T10:00:00.123Z 127.0.0.1 GET /api 200 1.2ms in=0 out=512 rule=ajax policy=classic changed=9`."""
    words = [
        timestamp,
        entry.client or "-",
        entry.method[:_MAX_METHOD] or "-",
        # One line, one entry: `quoted` escapes what a terminal or a log reader would act on.
        quoted_within(entry.target, _MAX_TARGET)[1:-1] or "-",
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
        words.append(f"error={quoted_within(entry.error, _MAX_ERROR)}")
    return " ".join(words).encode("ascii", "backslashreplace").decode() + "\n"
