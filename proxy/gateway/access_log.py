"""The access log: a line for each finished exchange, written in batches so that a line costs no system call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from proxy.gateway.log_fields import MAX_DETAIL, MAX_METHOD, MAX_TARGET, Renderer, json_renderer
from proxy.gateway.log_target import LogTarget, open_target, quoted_within
from proxy.gateway.record import Record
from proxy.message.target import readable
from proxy.settings import LOG_FIELDS, IPNetwork, Settings

Format = Literal["json", "text", "off"]

# Lines are rendered one after the other, when the code that does it is in the processor's cache: a request that renders
# its own costs a twentieth more CPU.
_BATCH_RECORDS: Final = 64
_MILLISECONDS: Final = tuple([f".{number:03d}Z" for number in range(1000)])


class AccessLog:
    """Renders records and hands them to a target, in batches.

    Args:
        form: `json` one object a line, `text` for people, `off`.
        path: a file to append to; standard output when `None`.
        fields: of JSON, in their order.
        trusted: networks of proxies that are believed about who the client is.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(
        self,
        form: Format,
        path: Path | None = None,
        *,
        fields: Sequence[str] = LOG_FIELDS,
        trusted: Iterable[IPNetwork] = (),
    ) -> None:
        self._render: Renderer = text_line
        if form == "json":
            self._render = json_renderer(fields, trusted)
        self._target: LogTarget | None = None if form == "off" else open_target(path)
        self._records: list[Record] = []  # not rendered yet
        self._lines: list[str] = []
        self._size = 0

    @property
    def dropped(self) -> int:
        """Lines given up because the target took none for too long."""
        return 0 if self._target is None else self._target.dropped

    def write(self, record: Record) -> None:
        """Add a line; it is on its way at the next `flush`, or when there is a batch of them."""
        if self._target is None:
            return
        self._records.append(record)
        if len(self._records) >= _BATCH_RECORDS:
            self._render_records()
            if self._size >= self._target.batch_bytes:
                self.flush()

    def flush(self) -> None:
        """Hand over what is pending; the target tries again what it still has."""
        if self._target is None:
            return
        self._render_records()
        lines, self._lines, self._size = self._lines, [], 0
        self._target.write("".join(lines).encode("ascii"))

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
        records, self._records = self._records, []
        render, lines = self._render, []
        whole_s, second = -1, ""
        for record in records:
            ended_s = record.ended_s
            if not 0 <= (part_s := ended_s - whole_s) < 1:
                whole_s = int(ended_s)
                part_s, second = ended_s - whole_s, _second(whole_s)
            lines.append(render(second + _MILLISECONDS[int(part_s * 1000)], record))
        self._lines += lines
        self._size += sum(map(len, lines))


def _second(whole_s: int) -> str:
    return f"{datetime.fromtimestamp(whole_s, UTC):%Y-%m-%dT%H:%M:%S}"


def open_access_log(settings: Settings) -> AccessLog:
    """Open the log that the settings ask for.

    Raises:
        OSError: its file cannot be opened.
    """
    return AccessLog(
        settings.access_log,
        settings.access_log_file,
        fields=settings.access_log_fields,
        trusted=settings.trusted_proxies,
    )


def text_line(timestamp: str, record: Record) -> str:
    """`2026-11-23T10:00:00.123Z 127.0.0.1 GET /api 200 1.2ms in=0 out=512 rule=ajax policy=classic changed=9`."""
    words = [
        timestamp,
        record.client or "-",
        record.method[:MAX_METHOD] or "-",
        # One line, one record: `quoted` escapes what a terminal or a log reader would act on.
        quoted_within(readable(record.target), MAX_TARGET)[1:-1] or "-",
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
        words.append(f"error={quoted_within(record.error, MAX_DETAIL)}")
    return " ".join(words).encode("ascii", "backslashreplace").decode() + "\n"
