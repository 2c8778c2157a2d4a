"""A response's head: what came in, and what the client gets under a treatment, with framing of its own."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from proxy.message.authentication import authenticates_connection
from proxy.message.errors import MalformedHeadError
from proxy.message.field_index import LineTable, drop, drop_named_in_connection, render_lines, value_of
from proxy.message.fields import REMEMBERED, FieldSection, connection_options, list_members
from proxy.message.framing import Framing, response_framing, rewrites_length
from proxy.message.memory import Memory
from proxy.message.mending import find_head_end, mend
from proxy.message.rewrite import AGE, UNTOUCHED, Treatment
from proxy.message.status import NO_CONTENT, OK
from proxy.message.syntax import HEAD_END, HeadParser

_CONNECTION_TABLE: Final = LineTable((b"content-length", b"www-authenticate"))
_HEAD_END_SIZE: Final = len(HEAD_END)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?", re.DOTALL)


class ResponseHead:
    """A response's head as it came in, checked. Several responses may share one: nobody changes it.

    Args:
        method: of the request that it answers.

    Attributes:
        status: 100 to 999.
        reason: the reason phrase as sent, often empty.
        minor: 0 for an HTTP/1.0 upstream.
        section: its fields.
        framing: how its content ends: one of `Framing`.
        content_length: bytes of content when that is fixed.
        keep_alive: the upstream lets its connection serve another request.
        authenticates_connection: it challenges or answers the connection, not the request: NTLM, Negotiate.

    Raises:
        MalformedHeadError: framing that two parsers could read differently.
    """

    __slots__ = (
        "authenticates_connection",
        "content_length",
        "framing",
        "keep_alive",
        "minor",
        "reason",
        "section",
        "status",
    )

    def __init__(
        self, status: int, reason: bytes, minor: int, section: FieldSection, method: str = "GET"
    ) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.section = section
        self.authenticates_connection = False
        if status < OK:
            self.framing, self.content_length, self.keep_alive = Framing.NONE, 0, True
            return
        noted = _CONNECTION_TABLE.note(section)
        if rewrites_length(noted):
            self.section = section = FieldSection(section.fields, section.lines.copy(), section.names)
        self.framing, self.content_length = response_framing(section.lines, noted, method, status, minor)
        if b"connection" in noted:
            options = connection_options(*[value for _, value in noted[b"connection"]])
            self.keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options)
        else:
            self.keep_alive = minor == 1
        if b"www-authenticate" in noted:
            self.authenticates_connection = authenticates_connection(noted[b"www-authenticate"])


class OutgoingHead:
    """A response's head as it goes out, and what comes after it.

    Attributes:
        data: the bytes of the head.
        is_chunked: the content goes out in the chunked coding.
        keep_alive: the client's connection may serve another request.
        changed: lines taken away, rewritten or written by the treatment.
        was_cached: an `Age` that the treatment removes says that a cache behind the gateway answered.
    """

    __slots__ = (
        "changed",
        "data",
        "is_chunked",
        "keep_alive",
        "was_cached",
    )

    def __init__(
        self,
        *,
        data: bytes,
        is_chunked: bool,
        keep_alive: bool,
        changed: int,
        was_cached: bool,
    ) -> None:
        self.data = data
        self.is_chunked = is_chunked
        self.keep_alive = keep_alive
        self.changed = changed
        self.was_cached = was_cached


class ResponseTable:
    """Reads response heads, for all connections of a worker.

    An app mostly answers with one of a few heads, apart from the second in its `Date`. One that came twice before costs one
    look-up.
    """

    __slots__ = ("_heads", "_parser")

    def __init__(self) -> None:
        self._parser = HeadParser("response")
        self._heads: Memory[ResponseHead] = Memory()

    def take(self, data: bytes, method: str, limit: int) -> tuple[ResponseHead, int] | None:
        """Read the response head that `data` begins with.

        Args:
            method: of the request that it answers.
            limit: bytes that a head may have.

        Returns:
            The head, and where it ends; `None` while it is not complete, or if it is too large.

        Raises:
            MalformedHeadError, TooManyFieldsError: the upstream does not speak HTTP/1.x; 502.
        """
        end = data.find(HEAD_END) + _HEAD_END_SIZE
        if _HEAD_END_SIZE <= end <= limit:
            head = data[:end]
            known = self._heads.known.get(head)
            if known is not None and method != "HEAD":
                return known, end
            try:
                response = self._read_strictly(head, method)
            except MalformedHeadError:
                pass  # with line feeds alone for line ends, it may also end before
            else:
                if method != "HEAD":  # all others are answered alike
                    self._heads.add(head, response)
                return response, end
        end = find_head_end(data)
        return (self.read(data[:end], method), end) if 0 <= end <= limit else None

    def read(self, head: bytes, method: str) -> ResponseHead:
        """Parse and check one response head, and mend what a proxy has to mend (`mending`).

        Args:
            method: of the request that it answers.

        Raises:
            MalformedHeadError, TooManyFieldsError: the upstream does not speak HTTP/1.x; 502.
        """
        if not head.endswith(HEAD_END):
            head = mend(head)
        try:
            return self._read_strictly(head, method)
        except MalformedHeadError:
            mended = mend(head)
            if mended == head:
                raise
            return self._read_strictly(mended, method)

    def _read_strictly(self, head: bytes, method: str) -> ResponseHead:
        start, section = self._parser.parse(head)
        status, reason, minor = _read_status_line(start)
        return ResponseHead(status, reason, minor, section, method)


def render_response(
    head: ResponseHead,
    treatment: Treatment,
    *,
    method: str,
    client_minor: int,
    keep_alive: bool,
    now: bytes,
    hides_validators: bool = False,
) -> OutgoingHead:
    """Render the head of a final response for the client.

    Args:
        method: of the request.
        client_minor: 0 for an HTTP/1.0 client: it gets no chunked coding.
        keep_alive: whether the gateway wants to keep the client's connection.
        now: an IMF-fixdate, used when the upstream sent no `Date` (RFC 9110 section 6.6.1).
        hides_validators: leave out those that the treatment would change; see `RequestHead.matches_any`.
    """
    lines, noted, left_out = treatment.walk(head.section)
    status = head.status
    drop_named_in_connection(lines, noted)
    if status == NO_CONTENT:
        drop(lines, noted, b"content-length")  # RFC 9110 section 8.6
    dates = noted.get(b"date")
    date = now if dates is None else dates[0][1]
    changed = left_out + treatment.apply(
        lines, noted, method, status, date, hides_validators=hides_validators
    )
    if dates is None:
        lines.append(b"Date: " + now)
    is_chunked, keep_alive = _frame_for_client(lines, head.framing, client_minor, keep_alive=keep_alive)
    return OutgoingHead(
        data=render_lines(_status_line(status, head.reason), lines),
        is_chunked=is_chunked,
        keep_alive=keep_alive,
        changed=changed,
        was_cached=AGE in noted,
    )


def _frame_for_client(
    lines: list[bytes], framing: int, client_minor: int, *, keep_alive: bool
) -> tuple[bool, bool]:
    """Add the fields of the client's connection; whether content is chunked there, and whether it stays open."""
    is_chunked = False
    if framing >= Framing.CHUNKED:
        if client_minor == 1:
            is_chunked = True
            lines.append(b"Transfer-Encoding: chunked")
        else:
            keep_alive = False
    if not keep_alive:
        lines.append(b"Connection: close")
    elif client_minor == 0:
        lines.append(b"Connection: keep-alive")
    return is_chunked, keep_alive


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
