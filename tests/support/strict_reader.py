"""A reader of HTTP/1.1 that forgives nothing: what the gateway writes has to pass here, to either side.

It shares no code with `proxy`: an oracle that used the gateway's own parsers would agree with their mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_REQUEST_LINE = re.compile(rb"([A-Z][A-Z0-9_-]*) (/[\x21-\x7e\x80-\xff]*|\*) HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):(?: ((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?))"
)
_CHUNK_SIZE = re.compile(rb"[1-9a-f][0-9a-f]*")
_FRAMING = (b"content-length", b"transfer-encoding", b"connection")


class NotStrictError(AssertionError):
    """Two parsers could read these bytes differently."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request or response.

    Attributes:
        method: of a request, or of the request that a response answers.
        status: of a response, 0 for a request.
        is_complete: its content ended as its framing says; `None` where only the connection's end tells.
        rest: what a protocol switch left to others.
    """

    start: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    content: bytes
    is_complete: bool | None
    method: str = ""
    status: int = 0
    rest: bytes = b""

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, by its lower-case name."""
        return [value for field_name, value in self.fields if field_name.lower() == name]

    @property
    def is_protected(self) -> bool:
        """Whether there is one `Cache-Control`, and it forbids storing."""
        lines = self.values(b"cache-control")
        return len(lines) == 1 and b"no-store" in [member.strip() for member in lines[0].split(b",")]


def read_requests(data: bytes, *, switched: bool = False) -> list[Message]:
    """Read all requests on an upstream connection; the last may be incomplete.

    Args:
        switched: the protocol was switched after the last request that asked for it.

    Raises:
        NotStrictError: they are not strictly HTTP/1.1.
    """
    messages: list[Message] = []
    while data:
        head, data = _cut_head(data)
        match = _REQUEST_LINE.fullmatch(head[0])
        if match is None:
            raise NotStrictError(f"request line {head[0]!r}")
        fields = _fields(head[1:])
        names = [name.lower() for name, _ in fields]
        if names.count(b"host") != 1:
            raise NotStrictError(f"Host lines: {names.count(b'host')}")
        method = match[1].decode()
        content, is_complete, data = _content(dict(_lower(fields)), data, default=True)
        messages.append(Message(head[0], fields, content, is_complete, method))
        if not is_complete:
            break
        if switched and any(name.lower() == b"upgrade" for name, _ in fields):
            messages[-1] = Message(head[0], fields, content, is_complete, method, rest=data)
            break
    return messages


def read_responses(data: bytes, methods: Iterator[str]) -> list[Message]:
    """Read all responses on a client connection, informational ones included; the last may be incomplete.

    Args:
        methods: of the requests that they answer, in order.

    Raises:
        NotStrictError: they are not strictly HTTP/1.1, or more than were asked for.
    """
    messages: list[Message] = []
    while data:
        head, data = _cut_head(data)
        match = _STATUS_LINE.fullmatch(head[0])
        if match is None:
            raise NotStrictError(f"status line {head[0]!r}")
        status = int(match[1])
        fields = _fields(head[1:])
        lower = dict(_lower(fields))
        if status < 200 and status != 101:
            if {b"content-length", b"transfer-encoding"} & lower.keys():
                raise NotStrictError("informational response with framing")
            messages.append(Message(head[0], fields, b"", is_complete=True, status=status))
            continue
        method = next(methods, None)
        if method is None:
            raise NotStrictError("a response that nobody asked for")
        if status == 101:
            messages.append(
                Message(head[0], fields, b"", is_complete=True, method=method, status=101, rest=data)
            )
            return messages
        if method == "HEAD" or status in (204, 304):
            content, is_complete = b"", True
            if status == 204 and {b"content-length", b"transfer-encoding"} & lower.keys():
                raise NotStrictError("204 with framing")
        else:
            content, is_complete, data = _content(lower, data, default=None)
        messages.append(Message(head[0], fields, content, is_complete, method, status))
        if is_complete is not True:
            break
        if lower.get(b"connection") == b"close" and data:
            raise NotStrictError("something after Connection: close")
    return messages


def _cut_head(data: bytes) -> tuple[list[bytes], bytes]:
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        raise NotStrictError(f"an incomplete head: {data[:80]!r}")
    return head.split(b"\r\n"), rest


def _fields(lines: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise NotStrictError(f"field line {line!r}")
        fields.append((match[1], match[2] or b""))
    names = [name.lower() for name, _ in fields]
    for name in _FRAMING:
        if names.count(name) > 1:
            raise NotStrictError(f"{name!r} more than once")
    if b"content-length" in names and b"transfer-encoding" in names:
        raise NotStrictError("Content-Length and Transfer-Encoding")
    return tuple(fields)


def _lower(fields: tuple[tuple[bytes, bytes], ...]) -> Iterator[tuple[bytes, bytes]]:
    return ((name.lower(), value) for name, value in fields)


def _content(
    lower: dict[bytes, bytes], data: bytes, *, default: bool | None
) -> tuple[bytes, bool | None, bytes]:
    coding = lower.get(b"transfer-encoding")
    length = lower.get(b"content-length")
    if coding is not None:
        if coding != b"chunked":
            raise NotStrictError(f"transfer coding {coding!r}")
        return _chunks(data)
    if length is not None:
        if not length.isdigit():
            raise NotStrictError(f"Content-Length {length!r}")
        size = int(length)
        return data[:size], len(data) >= size, data[size:]
    if default is None:
        return data, None, b""
    return b"", True, data


def _chunks(data: bytes) -> tuple[bytes, bool, bytes]:
    content = bytearray()
    while True:
        size_line, separator, rest = data.partition(b"\r\n")
        if not separator:
            if size_line.strip(b"0123456789abcdef\r"):
                raise NotStrictError(f"chunk size {size_line[:40]!r}")
            return bytes(content), False, b""
        if size_line == b"0":
            if len(rest) < 2:
                return bytes(content), False, b""
            if rest[:2] != b"\r\n":
                raise NotStrictError("something after the last chunk's size")
            return bytes(content), True, rest[2:]
        if not _CHUNK_SIZE.fullmatch(size_line):
            raise NotStrictError(f"chunk size {size_line[:40]!r}")
        size = int(size_line, 16)
        content += rest[:size]
        if len(rest) < size + 2:
            return bytes(content), False, b""
        if rest[size : size + 2] != b"\r\n":
            raise NotStrictError("a chunk that does not end with CRLF")
        data = rest[size + 2 :]
