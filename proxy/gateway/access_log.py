"""The access log: a line for each finished exchange, written in batches so that a line costs no system call."""

from __future__ import annotations

from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Final, Literal

from proxy.gateway.log_target import LogTarget, open_target, quoted_within
from proxy.gateway.record import Record
from proxy.message.target import readable

Format = Literal["json", "text", "off"]

# Lines are rendered one after the other, when the code that does it is in the processor's cache: a request that renders
# its own costs a twentieth more CPU.
_BATCH_RECORDS: Final = 64
_BATCH_BYTES: Final = 64 * 1024

# A line fits into PIPE_BUF (4096 bytes): what is written whole to a pipe or socket that several workers share.
_MAX_TARGET: Final = 2048
_MAX_ERROR: Final = 512
_MAX_METHOD: Final = 64


class AccessLog:
    """Renders records and hands them to a target, in batches.

    Args:
        form: `json` one object a line, `text` for people, `off`.
        path: a file to append to; standard output when `None`.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, form: Format, path: Path | None = None) -> None:
        self._render = {"json": _json, "text": _text, "off": None}[form]
        self._target: LogTarget | None = None if form == "off" else open_target(path)
        self._records: list[Record] = []  # not rendered yet
        self._lines: list[str] = []
        self._size = 0
        self._second = 0
        self._timestamp = ""

    @property
    def dropped(self) -> int:
        """Lines given up because the target took none for too long."""
        return 0 if self._target is None else self._target.dropped

    def write(self, record: Record) -> None:
        """Add a line; it is on its way at the next `flush`, or when a batch is full."""
        if self._target is None:
            return
        self._records.append(record)
        if len(self._records) >= _BATCH_RECORDS:
            self._render_records()
            if self._size >= _BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Hand over what is pending; the target tries again what it still has."""
        if self._target is None:
            return
        self._render_records()
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

    def _render_records(self) -> None:
        render = self._render
        if render is None:
            return
        records, self._records = self._records, []
        for record in records:
            second = int(record.ended_s)
            if second != self._second:
                self._second = second
                self._timestamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            line = render(f"{self._timestamp}.{int(record.ended_s % 1 * 1000):03d}Z", record)
            self._lines.append(line)
            self._size += len(line)


def _json(timestamp: str, record: Record) -> str:
    # By hand, because a dictionary through `json.dumps` costs three times as much; method and client are plain text.
    rule, policy, observed, error = record.rule, record.policy, record.observed, record.error
    upstream_s = record.upstream_s
    return (
        f'{{"ts":"{timestamp}","method":"{record.method[:_MAX_METHOD]}",'
        f'"target":{quoted_within(readable(record.target), _MAX_TARGET)},"status":{record.status or "null"},'
        f'"upstream_status":{record.upstream_status or "null"},"duration_s":{record.duration_s:.6f},'
        f'"upstream_s":{f"{upstream_s:.6f}" if upstream_s else "null"},"bytes_in":{record.bytes_in},'
        f'"bytes_out":{record.bytes_out},"client":"{record.client}","rule":{quoted(rule) if rule else "null"},'
        f'"policy":{quoted(policy) if policy else "null"},"changed":{record.changed},'
        f'"error":{quoted_within(error, _MAX_ERROR) if error else "null"}'
        f"{_observed(observed) if observed else ''}}}\n"
    )


def _observed(rule: str) -> str:
    return f',"observed":{quoted(rule)}'


def _text(timestamp: str, record: Record) -> str:
    """`2026-11-23T10:00:00.123Z 127.0.0.1 GET /api 200 1.2ms in=0 out=512 rule=ajax policy=classic changed=9`."""
    words = [
        timestamp,
        record.client or "-",
        record.method[:_MAX_METHOD] or "-",
        # One line, one record: `quoted` escapes what a terminal or a log reader would act on.
        quoted_within(readable(record.target), _MAX_TARGET)[1:-1] or "-",
        str(record.status or "-"),
        f"{record.duration_s * 1000:.1f}ms",
        f"in={record.bytes_in}",
        f"out={record.bytes_out}",
    ]
    if record.upstream_status and record.upstream_status != record.status:
        words.append(f"upstream={record.upstream_status}")
    if record.policy:
        words.append(f"rule={record.rule or '-'} policy={record.policy} changed={record.changed}")
    if record.observed:
        words.append(f"observed={record.observed}")
    if record.error:
        words.append(f"error={quoted_within(record.error, _MAX_ERROR)}")
    return " ".join(words).encode("ascii", "backslashreplace").decode() + "\n"
