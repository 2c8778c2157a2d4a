"""Requests that never become an exchange: when that can be told, and what is answered and logged of them."""

from __future__ import annotations

import re
import time
from typing import Final

from proxy.gateway import failures
from proxy.gateway.failures import Failure
from proxy.gateway.own_response import render_failure
from proxy.gateway.record import Record
from proxy.message.methods import PATTERN
from proxy.message.syntax import HEAD_END
from proxy.rules.policies import STRICT

MAX_EMPTY_LINES: Final = 16  # before a request; old browsers send one after a form
EMPTY_LINE: Final = b"\r\n"
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n){1,%d}" % (MAX_EMPTY_LINES + 1))
_REQUEST_LINE: Final = re.compile(PATTERN.encode() + rb" [^ \r\n]+ HTTP/1\.[01]\r")
_METHOD: Final = re.compile(rb"[A-Za-z0-9_-]{1,32}")

REFUSALS: Final = {
    400: failures.BAD_REQUEST,
    414: failures.TARGET_TOO_LONG,
    431: failures.HEAD_TOO_LARGE,
    501: failures.NOT_IMPLEMENTED,
}
"""By the status of a `MessageError`."""


def count_empty_lines(data: bytes) -> int:
    """Count the empty lines before a request, RFC 9112 section 2.2, up to one more than may be."""
    lines = _EMPTY_LINES.match(data)
    return 0 if lines is None else lines.end() // len(EMPTY_LINE)


def begins_head(data: bytes) -> bool:
    """Tell whether there is a first byte of a head: what may be a part of an empty line is none."""
    return data not in (b"", b"\r")


def refusal_of(data: bytes, limit: int) -> Failure | None:
    """Say why the beginning of a head can never become one that is served; `None` when it can.

    Args:
        data: without the end of a head.
        limit: bytes that a head may have.
    """
    if len(data) >= limit + len(HEAD_END):
        return failures.HEAD_TOO_LARGE if b"\n" in data[:limit] else failures.TARGET_TOO_LONG
    line, newline, _ = data.partition(b"\n")
    may_be_one = data[:1].isupper() or data == b"\r"  # a TLS handshake or a binary protocol is told at once
    if data and (
        not may_be_one
        or (newline and not _REQUEST_LINE.fullmatch(line))
        or data.count(b"\n") != data.count(b"\r\n")
    ):
        return failures.BAD_REQUEST.with_detail("not an HTTP/1.x request")
    return None


def refusal(failure: Failure, data: bytes, *, client: str, date: bytes) -> tuple[bytes, Record]:
    """Make the answer to what is no request, and its record.

    Args:
        data: what there is of it.
        client: its address.
        date: an IMF-fixdate.
    """
    method, target = readable_request_line(data)
    head, content = render_failure(
        failure, method=method, client_minor=1, keep_alive=False, vary=(), date=date
    )
    record = Record(method=method, target=target, client=client)
    record.ended_s = time.time()
    record.status = failure.status
    record.bytes_out = len(content)
    record.policy = STRICT.name
    record.failure = failure
    record.sent = head
    return head + content, record


def readable_request_line(data: bytes) -> tuple[str, bytes]:
    """Find method and target in what may be no request at all; empty where they cannot be told."""
    method, _, rest = data.partition(b"\n")[0].removesuffix(b"\r").partition(b" ")
    if not _METHOD.fullmatch(method):
        return "", b""
    return method.decode("ascii"), rest.rpartition(b" HTTP")[0] or rest
