"""Requests and responses to fuzz with: mostly well-formed, with every oddity of the edge, and then damaged."""

from __future__ import annotations

import random

from proxy.message.entity_tags import mark

_METHODS = (
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PROPFIND",
    "M-SEARCH",
    "CONNECT",
    "get",
    "FOO",
)
_TARGETS = (
    b"/", b"/a", b"/a?x=1", b"/a?", b"//a//b", b"/%2e%2e/a", b"/a%2Fb;v=1", b"*", b"http://app/x", b"http://other/",
    b"/a#b", b"/caf\xe9", b"a", b"/" + b"x" * 300, b"/x" * 2100, b"https://app", b"/\x01", b"",
)  # fmt: skip
_CONNECTION = (
    b"close", b"keep-alive", b"Upgrade", b"upgrade, keep-alive", b"If-Match", b"Host", b"Content-Length, close",
    b"X-Requested-With", b"TE, Transfer-Encoding", b"Via, X-Forwarded-For", b"", b",,", b"If-None-Match, Cookie",
    b"Vary", b"ETag, Last-Modified", b"Cache-Control, Date", b"Upgrade\x0b",
)  # fmt: skip
_TAG = mark(b'"v1"')
_REQUEST_FIELDS = (
    b"X-Requested-With: XMLHttpRequest", b"X_Requested_With: XMLHttpRequest", b"x-requested-with: a, xmlhttprequest",
    b"If-None-Match: " + _TAG, b'If-Match: "a", ' + _TAG, b"If-Match: " + mark(b"odd"), b"If-Range: " + _TAG,
    b"Range: bytes=0-", b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", b"Expect: 100-continue", b"Cookie: a=b",
    b"Upgrade: websocket", b"Upgrade: foo/2, h2c", b"Upgrade: h2c", b"TE: trailers", b"Trailer: X", b"Empty:",
    b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=x", b"Via: 1.0 x", b"Host: b", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: xchunked", b"Content-Length: +1", b"Content-Length: 1, 1", b"X: a\xe9\xff b", b" folded: x",
    b"Space : x", b"N\x00ul: x", b"V: a\x00b", b"B: a\rb", b"Keep-Alive: timeout=5", b"Proxy-Connection: close", b": x",
)  # fmt: skip
_RESPONSE_FIELDS = (
    b"Cache-Control: public, max-age=600", b"cache-control: no-transform", b'Cache-Control: private="no-store"',
    b"Vary: X-Requested-With", b"Vary: *", b"vary: Accept, x-requested-with", b'ETag: "v1"', b"ETag: odd", b'ETag: W/"v1"',
    b"etag:", b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", b"Date: Sun, 06 Nov 1994 08:49:37 GMT", b"Age: 3",
    b"CDN-Cache-Control: max-age=1", b"Surrogate-Control: x", b"Set-Cookie: a=1", b"set-cookie: b=2", b"Expires: 0",
    b"Trailer: X", b"Keep-Alive: 3", b"Upgrade: websocket", b"Server: x", b"X: \xe9", b"Content-Type: text/html", b": x",
    b"Transfer-Encoding: chunked", b"Content-Length: 3", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 3, 3",
    b" folded", b"Space : x", b"V: a\x00b", b"Proxy-Status: other; error=x",
)  # fmt: skip
_STATUSES = (
    b"200",
    b"200",
    b"200",
    b"200",
    b"204",
    b"206",
    b"301",
    b"304",
    b"404",
    b"500",
    b"101",
    b"999",
    b"099",
)
_INSERTED = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b"\x0b", b":", b"\xff", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b";", b",",
)  # fmt: skip


ASKED_BY = b"X-Asked-By: "
# Large content is a part of it, so that a byte at the wrong place shows.
NUMBERED = b"".join(b"%08d" % number for number in range(1 << 17))
UNASKED = b"more than was asked for"


def random_requests(chance: random.Random) -> bytes:
    """Make what a client sends on one connection."""
    if chance.random() < 0.02:
        return chance.randbytes(chance.randrange(200))
    data = b"".join(_request(chance) for _ in range(chance.choice((1, 1, 2, 4))))
    return _damaged(chance, data) if chance.random() < 0.25 else data


def random_response(
    chance: random.Random, method: str, asker: bytes, *, asks_to_switch: bool, large_share: float
) -> tuple[bytes, bool]:
    """Make what an upstream sends for one request; most answers name who has asked.

    Returns:
        The bytes, and whether it closes its connection afterwards.
    """
    if chance.random() < 0.02:
        return chance.randbytes(chance.randrange(200)), chance.random() < 0.5
    data = b""
    while chance.random() < 0.1:
        data += chance.choice(
            (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        ) * (70 if chance.random() < 0.02 else 1)
    status = chance.choice(_STATUSES[:10] if chance.random() < 0.97 else _STATUSES)
    if asks_to_switch and chance.random() < 0.6:
        status = b"101"
    lines = [ASKED_BY + asker, *(chance.choice(_RESPONSE_FIELDS[:24]) for _ in range(chance.randrange(5)))]
    if chance.random() < 0.15:
        lines.append(chance.choice(_RESPONSE_FIELDS))
    if status == b"101":
        lines += [b"Connection: Upgrade", chance.choice((b"Upgrade: websocket", b"Upgrade: foo/2"))]
    elif chance.random() < 0.3:
        lines.append(b"Connection: " + chance.choice(_CONNECTION))
    is_large = chance.random() < large_share
    content = _large(chance) if is_large else chance.randbytes(chance.choice((0, 1, 5, 300)))
    closes = chance.random() < 0.1
    framing = chance.random()
    if framing < 0.5:
        lines.append(b"Content-Length: %d" % len(content))
    elif framing < 0.8 and status != b"101":
        lines.append(b"Transfer-Encoding: chunked")
        content = _chunked(chance, content)
    else:
        closes = True
    if status in (b"204", b"304") or method == "HEAD":
        content = b"" if chance.random() < 0.95 else content
    chance.shuffle(lines)
    version = (
        b"HTTP/1.1"
        if chance.random() < 0.9
        else chance.choice((b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.0", b"ICY"))
    )
    reason = chance.choice((b" OK", b" ", b"", b" caf\xe9 x", b" a\tb"))
    # Line feeds alone are mended (RFC 9112 section 2.2); a head that mixes them at its end is refused.
    line_end = b"\n" if chance.random() < 0.05 else b"\r\n"
    last = line_end if chance.random() < 0.99 else b"\n"
    start = version + b" " + status + reason
    data += start + line_end + b"".join(line + line_end for line in lines) + last + content
    if chance.random() < 0.03:
        data += UNASKED
    if chance.random() < 0.03:
        data, closes = data[: chance.randrange(len(data))], True
    return (_damaged(chance, data) if chance.random() < 0.15 and not is_large else data), closes


def challenge(asker: bytes) -> bytes:
    """Make an answer after which the connection is the asker's, RFC 4559."""
    return (
        b"HTTP/1.1 401 Unauthorized\r\n" + ASKED_BY + asker + b"\r\n"
        b"WWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\nno"
    )


def late_answer(chance: random.Random, asker: bytes) -> bytes:
    """Make what an app sends after the end of an answer, and what another client would take for its own."""
    head = b"HTTP/1.1 200 OK\r\n" + ASKED_BY + asker + b"\r\nContent-Length: 4\r\n\r\nlate"
    return chance.choice((head, head, head[: chance.randrange(len(head))], b"late", b"\r\n" + head))


def _request(chance: random.Random) -> bytes:
    method = chance.choice(_METHODS[:11] if chance.random() < 0.98 else _METHODS)
    target = chance.choice(_TARGETS[:7] if chance.random() < 0.97 else _TARGETS)
    version = (
        b"HTTP/1.1"
        if chance.random() < 0.9
        else chance.choice((b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2", b""))
    )
    lines = [b"Host: app"] if chance.random() < 0.985 else []
    if chance.random() < 0.05:
        lines.append(b"Authorization: " + chance.choice((b"NTLM x", b"Negotiate x")))
    lines += [chance.choice(_REQUEST_FIELDS[:20]) for _ in range(chance.randrange(4))]
    if chance.random() < 0.1:
        lines.append(chance.choice(_REQUEST_FIELDS))
    if chance.random() < 0.35:
        lines.append(b"Connection: " + chance.choice(_CONNECTION))
    if chance.random() < 0.08:
        lines += [
            b"Connection: Upgrade",
            chance.choice((b"Upgrade: websocket", b"Upgrade: foo/2, websocket")),
        ]
    content = b""
    if method in ("POST", "PUT") or chance.random() < 0.05:
        content = chance.randbytes(chance.choice((0, 1, 5, 300)))
        if chance.random() < 0.5:
            lines.append(b"Content-Length: %d" % len(content))
        else:
            lines.append(b"Transfer-Encoding: chunked")
            content = _chunked(chance, content)
    if chance.random() < 0.2:
        chance.shuffle(lines)
    head = method.encode() + b" " + target + b" " + version + b"\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + content


def _large(chance: random.Random) -> bytes:
    start = chance.randrange(0, 200_000, 8)
    return NUMBERED[start : start + chance.choice((140_000, 300_000, 800_000))]


def _chunked(chance: random.Random, content: bytes) -> bytes:
    data = b""
    while content:
        size = chance.choice((1, 3, 100, 1000) if len(content) < 100_000 else (100_000, 300_000))
        piece, content = content[:size], content[size:]
        size_line = b"%x" % len(piece) if chance.random() < 0.8 else b"%04X" % len(piece)
        extension = (
            chance.choice((b"", b"", b"", b";a=b", b';a="x"', b" ", b" ;x", b"\t"))
            if chance.random() < 0.2
            else b""
        )
        data += size_line + extension + b"\r\n" + piece + b"\r\n"
    trailer = (
        chance.choice((b"", b"", b"", b"T: x\r\n", b"Content-Length: 9\r\n", b" x\r\n"))
        if chance.random() < 0.2
        else b""
    )
    return data + b"0\r\n" + trailer + b"\r\n"


def _damaged(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data = data[:place] + chance.choice(_INSERTED) + data[place:]
            case 1:
                data = data[:place] + data[place + chance.choice((1, 2, 20)) :]
            case 2:
                data = data[:place] + bytes((chance.randrange(256),)) + data[place + 1 :]
            case 3:
                data = data.replace(b"\r\n", chance.choice((b"\n", b"\r", b"\r\n\r\n", b"\r\n ")), 1)
            case _:
                line = data[place:].partition(b"\r\n")[0]
                data = data[:place] + line + b"\r\n" + data[place:]
    return data
