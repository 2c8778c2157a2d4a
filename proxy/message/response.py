"""A response's head: what came in, how its content is framed, and what goes out under a treatment.

The treatment is a policy compiled for one pass over the fields. What no treatment touches leaves as it
came: order, spelling and multiplicity of fields, reason phrase, and the place of every line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from proxy.message import entity_tags
from proxy.message.directives import has_no_transform
from proxy.message.field_index import (
    LineTable,
    Noted,
    drop,
    drop_named_in_connection,
    read_length,
    render_lines,
    value_of,
)
from proxy.message.fields import REMEMBERED, Field, FieldSection, list_members, merge_vary
from proxy.message.syntax import HeadParser, MalformedHeadError

ETagMode = Literal["one-time", "keep", "remove"]
LastModifiedMode = Literal["date", "keep", "remove"]

SWITCHING_PROTOCOLS: Final = 101
OK: Final = 200
NO_CONTENT: Final = 204
PARTIAL_CONTENT: Final = 206
NOT_MODIFIED: Final = 304

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?", re.DOTALL)
_READ_HERE: Final = (b"content-length", b"date")
_CACHE_CONTROL: Final = b"cache-control"
_AGE: Final = b"age"


class Framing:
    """How the end of a response's content is told, RFC 9112 section 6.3."""

    NONE: Final = 0
    FIXED: Final = 1
    CHUNKED: Final = 2
    UNTIL_CLOSE: Final = 3


class ResponseHead:
    """A response's head as it came in, checked.

    Attributes:
        status: 100 to 999.
        reason: the reason phrase as sent, often empty.
        minor: 0 for an HTTP/1.0 upstream.
        section: its fields.
    """

    __slots__ = ("minor", "reason", "section", "status")

    def __init__(self, status: int, reason: bytes, minor: int, section: FieldSection) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.section = section

    @property
    def is_final(self) -> bool:
        """Whether no other response to the same request follows (101 ends HTTP altogether)."""
        return self.status >= OK or self.status == SWITCHING_PROTOCOLS


class Treatment:
    """What happens to the fields of a response; immutable, made once for a policy and a set of `Vary` names.

    Args:
        set_fields: written last, in this order, in place of every upstream line of their names. A
            `Cache-Control` keeps the upstream's `no-transform` (RFC 9111 section 5.2.2.6).
        remove: lower-case names; with a leading `*` every name that ends with the rest.
        etag: `one-time` rewrites the tag of a 200 to GET or HEAD.
        last_modified: `date` sets it to the response's `Date`; a 206 keeps its own, as ranges must fit.
        vary: names to merge into `Vary`.
    """

    __slots__ = ("_etag", "_last_modified", "_set_lines", "_table", "_vary")

    def __init__(
        self,
        set_fields: Iterable[Field] = (),
        remove: Iterable[bytes] = (),
        etag: ETagMode = "keep",
        last_modified: LastModifiedMode = "keep",
        vary: Iterable[bytes] = (),
    ) -> None:
        settings = tuple(set_fields)
        removed = tuple(remove)
        self._set_lines = tuple(name + b": " + value for name, value in settings)
        self._etag = etag
        self._last_modified = last_modified
        self._vary = tuple(vary)
        noted = list(_READ_HERE)
        noted += [_CACHE_CONTROL] if any(name.lower() == _CACHE_CONTROL for name, _ in settings) else []
        noted += [_AGE] if _AGE in removed else []
        noted += [b"etag"] if etag != "keep" else []
        noted += [b"last-modified"] if last_modified != "keep" else []
        noted += [b"vary"] if self._vary else []
        self._table = LineTable(
            noted,
            left_out=[name.lower() for name, _ in settings]
            + [name for name in removed if not name.startswith(b"*")],
            left_out_suffixes=[name[1:] for name in removed if name.startswith(b"*")],
        )

    def walk(self, section: FieldSection) -> tuple[list[bytes], Noted, int]:
        """Have the lines of a response without those that this treatment takes away.

        Returns:
            The lines, the fields that are read here or by the framing, and how many were taken away.
        """
        return self._table.walk(section)

    def apply(self, lines: list[bytes], noted: Noted, method: str, status: int, date: bytes) -> int:
        """Change the lines of a final response as the policy says, `Vary` included.

        Args:
            date: the value of the response's `Date`.

        Returns:
            How many lines were taken away, rewritten or written here.
        """
        changed = len(self._set_lines)
        if self._etag != "keep" and b"etag" in noted:
            changed += self._apply_etag(lines, noted, method, status)
        if self._last_modified != "keep" and status != PARTIAL_CONTENT:
            changed += drop(lines, noted, b"last-modified")
            if self._last_modified == "date":
                lines.append(b"Last-Modified: " + date)
                changed += 1
        if self._vary:
            changed += self._apply_vary(lines, noted)
        dates = noted.get(b"date")
        if dates is not None and len(dates) > 1 and self._set_lines:
            for place, _ in dates[1:]:  # Werkzeug's own server adds one to the app's
                lines[place] = b""
            changed += len(dates) - 1
        if _CACHE_CONTROL in noted and has_no_transform(*[value for _, value in noted[_CACHE_CONTROL]]):
            lines += [_with_no_transform(line) for line in self._set_lines]
        else:
            lines += self._set_lines
        return changed

    def _apply_etag(self, lines: list[bytes], noted: Noted, method: str, status: int) -> int:
        if self._etag == "remove":
            return drop(lines, noted, b"etag")
        if status != OK or method not in ("GET", "HEAD"):
            return 0
        for place, value in noted[b"etag"]:
            if not lines[place]:
                continue  # `Connection` named it
            name = lines[place][: -len(value)] if value else lines[place]
            lines[place] = name + entity_tags.make_one_time(value)
        return len(noted[b"etag"])

    def _apply_vary(self, lines: list[bytes], noted: Noted) -> int:
        theirs = noted.get(b"vary")
        if theirs is None:
            lines.append(b"Vary: " + merge_vary((), self._vary))
            return 1
        place, value = theirs[0]
        merged = merge_vary(tuple([value for _, value in theirs]), self._vary)
        if len(theirs) == 1 and merged == value and lines[place]:
            return 0
        drop(lines, noted, b"vary")
        lines[place] = b"Vary: " + merged
        return len(theirs)


def _with_no_transform(line: bytes) -> bytes:
    return line + b", no-transform" if line[: len(_CACHE_CONTROL)].lower() == _CACHE_CONTROL else line


UNTOUCHED: Final = Treatment()
"""What a response that no rule touches gets."""


class OutgoingHead:
    """A response's head as it goes out, and what comes after it.

    Attributes:
        data: the bytes of the head.
        framing: how the upstream ends the content: one of `Framing`.
        content_length: bytes of content when that is fixed.
        is_chunked: the content goes out in the chunked coding.
        keep_alive: the client's connection may serve another request.
        reuse_upstream: the upstream's connection may, once the content has ended.
        changed: lines taken away, rewritten or written by the treatment.
        was_cached: an `Age` that the treatment removes says that a cache behind the gateway answered.
    """

    __slots__ = (
        "changed",
        "content_length",
        "data",
        "framing",
        "is_chunked",
        "keep_alive",
        "reuse_upstream",
        "was_cached",
    )

    def __init__(
        self,
        *,
        data: bytes,
        framing: int,
        content_length: int,
        is_chunked: bool,
        keep_alive: bool,
        reuse_upstream: bool,
        changed: int,
        was_cached: bool,
    ) -> None:
        self.data = data
        self.framing = framing
        self.content_length = content_length
        self.is_chunked = is_chunked
        self.keep_alive = keep_alive
        self.reuse_upstream = reuse_upstream
        self.changed = changed
        self.was_cached = was_cached


def read_response(head: bytes, parser: HeadParser) -> ResponseHead:
    """Parse and check one response head.

    Raises:
        MalformedHeadError, TooManyFieldsError: the upstream does not speak HTTP/1.x; 502.
    """
    start, section = parser.parse(head)
    status, reason, minor = _read_status_line(start)
    return ResponseHead(status, reason, minor, section)


def render_response(
    head: ResponseHead, treatment: Treatment, *, method: str, client_minor: int, keep_alive: bool, now: bytes
) -> OutgoingHead:
    """Render the head of a final response for the client.

    Args:
        method: of the request.
        client_minor: 0 for an HTTP/1.0 client: it gets no chunked coding.
        keep_alive: whether the gateway wants to keep the client's connection.
        now: an IMF-fixdate, used when the upstream sent no `Date` (RFC 9110 section 6.6.1).

    Raises:
        MalformedHeadError: framing that two parsers could read differently; 502.
    """
    lines, noted, left_out = treatment.walk(head.section)
    status = head.status
    framing, content_length = _framing(lines, noted, head, method)
    options = drop_named_in_connection(lines, noted)
    announces_content = False
    if status == NO_CONTENT:  # RFC 9110 section 8.6; what comes nonetheless is not the next response
        length = value_of(noted, b"content-length") or b""
        announces_content = length.strip(b"0") != b"" or b"transfer-encoding" in noted
        drop(lines, noted, b"content-length")
    dates = noted.get(b"date")
    date = None if dates is None else dates[0][1]
    changed = left_out + treatment.apply(lines, noted, method, status, now if date is None else date)
    if date is None:
        lines.append(b"Date: " + now)
    is_chunked = framing >= Framing.CHUNKED and client_minor == 1
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif framing >= Framing.CHUNKED:
        keep_alive = False
    if not keep_alive:
        lines.append(b"Connection: close")
    elif client_minor == 0:
        lines.append(b"Connection: keep-alive")
    return OutgoingHead(
        data=render_lines(_status_line(status, head.reason), lines),
        framing=framing,
        content_length=content_length,
        is_chunked=is_chunked,
        keep_alive=keep_alive,
        reuse_upstream=(
            framing != Framing.UNTIL_CLOSE
            and not announces_content
            and b"close" not in options
            and (head.minor == 1 or b"keep-alive" in options)
        ),
        changed=changed,
        was_cached=_AGE in noted,
    )


def render_informational(head: ResponseHead) -> bytes:
    """Render a 1xx response other than 101 as it came, hop-by-hop fields and framing aside."""
    lines, noted, _ = UNTOUCHED.walk(head.section)
    drop_named_in_connection(lines, noted)
    drop(lines, noted, b"content-length")
    return render_lines(_status_line(head.status, head.reason), lines)


def render_switch(head: ResponseHead, asked_for: bytes) -> bytes:
    """Render a 101, RFC 9110 section 7.8.

    Args:
        asked_for: the protocols that the client asked for.

    Raises:
        MalformedHeadError: the upstream switches to a protocol that nobody asked for.
    """
    lines, noted, _ = UNTOUCHED.walk(head.section)
    protocol = value_of(noted, b"upgrade") or b""
    asked = list_members(asked_for.lower())
    switched = list_members(protocol.lower())
    if not switched or not all(member in asked for member in switched):
        raise MalformedHeadError("101 to a protocol that was not asked for")
    drop_named_in_connection(lines, noted)
    drop(lines, noted, b"content-length")
    lines += (b"Connection: Upgrade", b"Upgrade: " + protocol)
    return render_lines(_status_line(head.status, head.reason), lines)


@lru_cache(REMEMBERED)
def _read_status_line(line: bytes) -> tuple[int, bytes, int]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise MalformedHeadError("bad status line")
    return int(match[2]), match[3] or b"", int(match[1])


@lru_cache(REMEMBERED)
def _status_line(status: int, reason: bytes) -> bytes:
    return b"HTTP/1.1 %d %b" % (status, reason)


def _framing(lines: list[bytes], noted: Noted, head: ResponseHead, method: str) -> tuple[int, int]:
    """Decide how the content ends, RFC 9112 section 6.3; stricter than it, nothing ambiguous passes."""
    codings = noted.get(b"transfer-encoding")
    is_sized = b"content-length" in noted
    if codings and (len(codings) > 1 or codings[0][1].lower() != b"chunked" or is_sized or head.minor == 0):
        raise MalformedHeadError("ambiguous framing: Transfer-Encoding")
    content_length = read_length(lines, noted)
    if method == "HEAD" or head.status in (NO_CONTENT, NOT_MODIFIED):
        return Framing.NONE, 0
    if codings:
        return Framing.CHUNKED, 0
    if is_sized:
        return (Framing.FIXED, content_length) if content_length else (Framing.NONE, 0)
    return Framing.UNTIL_CLOSE, 0
