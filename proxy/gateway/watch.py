"""The latest exchanges of a worker, for whoever watches them: it exists only meanwhile, and then costs some 15 us a request.

Heads are taken as bytes, cut to a bound. They are masked and rendered when they are asked for: of thousands of
exchanges a second that nobody will see, none is.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

from proxy.gateway.record import Record
from proxy.message.field_index import render_lines
from proxy.message.masking import masked, masked_line
from proxy.message.request import render_request
from proxy.message.response import ResponseHead
from proxy.message.syntax import HEAD_END
from proxy.message.target import readable

KEPT: Final = 200
"""Exchanges that are kept."""

WATCHED_S: Final = 30.0
"""So long after the last time that somebody asked, nothing is kept any more."""

_MAX_TARGET: Final = 1024  # explain takes as much
_MAX_METHOD: Final = 64
_MAX_LINE: Final = 512
_MAX_FIELDS: Final = 3072  # bytes of the fields of one head as they are shown
_MAX_TAKEN: Final = 8192  # bytes of one head as it is kept: cookies are hidden later, and may take half of it
_LINE_END: Final = b"\r\n"
_CUT: Final = "..."

_log = logging.getLogger(__name__)


class _Ended:
    """An exchange that has ended: what the record says of it, and its heads."""

    __slots__ = (
        "changed",
        "detail",
        "duration_s",
        "ended_s",
        "error",
        "forwarded",
        "method",
        "observed",
        "policy",
        "received",
        "responded",
        "rule",
        "sent",
        "status",
        "target",
        "upstream_status",
    )

    def __init__(self, record: Record) -> None:
        self.ended_s = record.ended_s
        self.method = record.method
        self.target = record.target[:_MAX_TAKEN]
        self.status = record.status
        self.upstream_status = record.upstream_status
        self.duration_s = record.duration_s
        self.rule = record.rule
        self.policy = record.policy
        self.observed = record.observed
        self.changed = record.changed
        failure = record.failure
        self.error = "" if failure is None else failure.reason
        self.detail = "" if failure is None else failure.detail
        request = record.request
        self.received = b"" if request is None else _taken(request.received)
        self.forwarded = b""
        if request is not None and (self.upstream_status or self.error.startswith("upstream_")):
            self.forwarded = _taken(render_request(request, strips_conditionals=False)[0])
        self.responded = b"" if record.response is None else _taken(_as_bytes(record.response))
        self.sent = _taken(record.sent)


class Watch:
    """Keeps the latest exchanges of a worker until nobody asks for them any more.

    Args:
        now_s: by the worker's clock.
    """

    def __init__(self, now_s: float) -> None:
        self._until_s = now_s + WATCHED_S
        self._ended: deque[_Ended] = deque(maxlen=KEPT)

    def take(self, record: Record) -> None:
        """Keep an exchange that has ended, or a request that was refused; the oldest makes room.

        Args:
            record: with its heads.
        """
        self._ended.append(_Ended(record))

    def is_over(self, now_s: float) -> bool:
        """Tell whether nobody has asked for too long."""
        return now_s >= self._until_s

    async def hand_over(self, now_s: float) -> list[bytes]:
        """Return what has ended since it was last asked for, oldest first, each as a JSON object; keep it no more."""
        self._until_s = now_s + WATCHED_S
        ended, self._ended = list(self._ended), deque(maxlen=KEPT)
        rows: list[bytes] = []
        for one in ended:
            try:
                rows.append(_row(one))
            except Exception:  # noqa: BLE001 - nobody is to lose a worker by looking at what passes
                _log.exception("showing an exchange failed")
            # A quarter of a millisecond each, 8 ms where every value is full of parameters.
            await asyncio.sleep(0)
        return rows


def _taken(head: bytes) -> bytes:
    """Cut a head to what is kept of it, at the end of a line: a part of a name would not tell what to hide."""
    if len(head) <= _MAX_TAKEN:
        return head
    end = head.rfind(_LINE_END, 0, _MAX_TAKEN)
    return head[: end if end > 0 else _MAX_TAKEN]


def _as_bytes(response: ResponseHead) -> bytes:
    start = b"HTTP/1.%d %d %b" % (response.minor, response.status, response.reason)
    return render_lines(start, response.section.lines)


def _row(ended: _Ended) -> bytes:
    row: dict[str, Any] = {
        "ts": f"{datetime.fromtimestamp(ended.ended_s, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        "method": ended.method[:_MAX_METHOD],
        "target": _text(masked(ended.target), _MAX_TARGET),
        "status": ended.status or None,
        "upstream_status": ended.upstream_status or None,
        "duration_s": round(ended.duration_s, 6),
        "rule": ended.rule or None,
        "policy": ended.policy or None,
        "observed": ended.observed or None,
        "changed": ended.changed,
        "error": ended.error or None,
        "detail": ended.detail[:_MAX_LINE] or None,
        "request": {"received": _lines(ended.received), "forwarded": _lines(ended.forwarded)},
        "response": {"received": _lines(ended.responded), "sent": _lines(ended.sent)},
    }
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _lines(head: bytes) -> list[str] | None:
    """Render a head, the start line first, as far as it is shown; `None` for none."""
    if not head:
        return None
    start, *fields = head.removesuffix(HEAD_END).split(_LINE_END)
    lines = [_text(masked(start), _MAX_TARGET + _MAX_METHOD)]
    size = 0
    for field in fields:
        line = _text(masked_line(field), _MAX_LINE)
        size += len(line.encode("utf-8", "replace"))
        if size > _MAX_FIELDS:
            break
        lines.append(line)
    is_whole = len(lines) == 1 + len(fields) and head.endswith(HEAD_END)
    return lines if is_whole else [*lines, _CUT]


def _text(value: bytes, limit: int) -> str:
    text = readable(value)
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT
