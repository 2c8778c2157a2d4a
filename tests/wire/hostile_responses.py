"""Responses of a hostile or an odd upstream, for `test_hostile_upstream.py`: a table for each fate."""

from __future__ import annotations

END = b"\r\n\r\n"
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + DATE
FIXED = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
HELLO_CHUNKS = b"5\r\nhello\r\n" + LAST_CHUNK
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def named(values: dict[str, bytes], template: bytes) -> dict[str, bytes]:
    """Put each value where the template has `@`."""
    return {name: template.replace(b"@", value) for name, value in values.items()}


CODINGS = {
    "TE after CL": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "TE before CL": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "TE and CL of nought": b"Content-Length: 0\r\nTransfer-Encoding: chunked",
    "TE identity and CL": b"Content-Length: 5\r\nTransfer-Encoding: identity",
    "TE that Connection names, and CL": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
    "TE identity": b"Transfer-Encoding: identity",
    "TE gzip": b"Transfer-Encoding: gzip",
    "TE gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "TE chunked, identity": b"Transfer-Encoding: chunked, identity",
    "TE chunked, nothing": b"Transfer-Encoding: chunked,",
    "TE xchunked": b"Transfer-Encoding: xchunked",
    "TE with a parameter": b"Transfer-Encoding: chunked;q=1",
    "TE quoted": b'Transfer-Encoding: "chunked"',
    "TE empty": b"Transfer-Encoding:",
    "TE after a vertical tab": b"Transfer-Encoding: \x0bchunked",
    "TE before a NUL": b"Transfer-Encoding: chunked\0",
    "TE folded": b"Transfer-Encoding:\r\n chunked",
    "TE with a space before the colon, and CL": b"Transfer-Encoding : chunked\r\nContent-Length: 5",
    "TE after a fold before the colon": b"Transfer-Encoding\r\n : chunked",
    "TE twice": b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked",
    "TE chunked and identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
}
LENGTHS = {
    "CL lines with two values": b": 5\r\ncontent-length: 6",
    "CL lines and a list with two values": b": 5\r\nContent-Length: 5, 6",
    "CL list with two values": b": 5, 6",
    "CL list with an empty member": b": 5,",
    "CL lines that differ by a nought": b": 5\r\nContent-Length: 05",
    "CL with a plus": b": +5",
    "CL with a minus": b": -5",
    "CL empty": b":",
    "CL with an underscore": b": 0_5",
    "CL hexadecimal": b": 0x5",
    "CL decimal fraction": b": 5.0",
    "CL with a space within": b": 0 5",
    "CL with a letter": b": 5a",
    "CL of an Arabic digit": b": \xd9\xa5",
    "CL of a superscript": b": \xb9",
    "CL before a NUL": b": 5\0",
    "CL folded": b":\r\n 5",
    "CL beyond 64 bits": b": 18446744073709551621",
}
FIELDS = {
    "bare CR in a value": b"X: a\rb",
    "bare CR in a cookie": b"Set-Cookie: a=b\rX-Injected: c",
    "bare CR before the line's end": b"X: a\r",
    "bare LF that ends the head": b"X: a\n\nevil",
    "bare LF before the empty line": b"X: a\n\r\nevil",
    "line of white space": b"X: a\r\n \r\nY: b",
    "fold of a line without a colon": b"X\r\n : a",
    "space before the first field": b" X: a",
    "space within a name": b"X Y: a",
    "NUL in a value": b"X: a\0b",
    "NUL in a name": b"X\0: a",
    "DEL in a value": b"X: a\x7f",
    "vertical tab in a value": b"X: a\x0bb",
    "escape in a value": b"X: \x1b[2J",
    "no colon": b"X",
    "no name": b": a",
    "white space for a name": b" : a",
    "slash in a name": b"X/1: a",
    "byte above ASCII in a name": b"X\xe9: a",
    "status line for a field": b"HTTP/1.1 200 OK",
    "value too long": b"X: " + b"x" * 5000,
    "name too long": b"x" * 5000 + b": a",
    "fields too many": b"\r\n".join([b"a:"] * 256),
}
LINES = {
    "HTTP/0.9": b"<html>hello</html>",
    "HTTP/1.2": b"HTTP/1.2 200 OK",
    "HTTP/1.10": b"HTTP/1.10 200 OK",
    "HTTP/2": b"HTTP/2 200",
    "HTTP/2.0": b"HTTP/2.0 200 OK",
    "http in lower case": b"http/1.1 200 OK",
    "another protocol": b"ICY 200 OK",
    "request for a response": b"GET / HTTP/1.1",
    "space before the version": b" HTTP/1.1 200 OK",
    "empty line before the version": b"\r\nHTTP/1.1 200 OK",
    "bare LF before the version": b"\nHTTP/1.1 200 OK",
    "byte order mark": b"\xef\xbb\xbfHTTP/1.1 200 OK",
    "no version": b"200 OK",
    "no status": b"HTTP/1.1",
    "no status but a space": b"HTTP/1.1 ",
    "no status but a reason": b"HTTP/1.1 OK",
    "two spaces before the status": b"HTTP/1.1  200 OK",
    "tab before the status": b"HTTP/1.1\t200 OK",
    "status of two digits": b"HTTP/1.1 99 OK",
    "status of four digits": b"HTTP/1.1 1000 OK",
    "status of four digits with a nought": b"HTTP/1.1 0200 OK",
    "status of nought": b"HTTP/1.1 000 OK",
    "status below 100": b"HTTP/1.1 099 OK",
    "status with a minus": b"HTTP/1.1 -1 OK",
    "status with a plus": b"HTTP/1.1 +20 OK",
    "status with a letter": b"HTTP/1.1 2x0 OK",
    "status with a fraction": b"HTTP/1.1 200.1 OK",
    "status of Arabic digits": "HTTP/1.1 ٢٠٠ OK".encode(),
    "status without a space after it": b"HTTP/1.1 200OK",
    "status before a tab": b"HTTP/1.1 200\tOK",
    "reason with a NUL": b"HTTP/1.1 200 O\0K",
    "reason with an escape": b"HTTP/1.1 200 \x1b[2J",
    "reason with a DEL": b"HTTP/1.1 200 O\x7fK",
    "reason with a bare CR": b"HTTP/1.1 200 OK\rX: a",
    "reason too long": b"HTTP/1.1 200 " + b"x" * 5000,
}
OTHERS = {
    "line feeds alone but for the last line": b"HTTP/1.1 200 OK\nContent-Length: 5\n\r\nhello",
    "HTTP/2 settings": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80",
    "TLS alert": b"\x15\x03\x01\0\x02\x02\x46",
    "NUL alone": b"\0",
    "TE in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO_CHUNKS,
    "ambiguous framing of a 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 6"
    + END,
    "ambiguous framing of a 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nTransfer-Encoding: chunked"
    + END,
    "304 that nobody asked for": b'HTTP/1.1 304 Not Modified\r\nETag: "a"' + END,
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"
    + END,
    "101 to nothing": b"HTTP/1.1 101 Switching Protocols" + END,
    "1xx for ever": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 65,
    "content of a 1xx": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + FIXED,
    "chunks of a 1xx": b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n"
    + HELLO_CHUNKS
    + FIXED,
    "malformed 1xx": b"HTTP/1.1 103 Early Hints\r\nLink\r\n\r\n" + FIXED,
    "malformed response after a 1xx": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 2x0 OK\r\n\r\n",
}
REFUSED: dict[str, bytes] = (
    OTHERS
    | named(CODINGS, OK + b"@\r\n\r\n" + HELLO_CHUNKS)
    | named(LENGTHS, OK + b"Content-Length@\r\n\r\nhello")
    | named(FIELDS, OK.partition(DATE)[0] + b"@\r\nContent-Length: 5\r\n\r\nhello")
    | named(LINES, b"@\r\nContent-Length: 5\r\n\r\nhello")
)
"""What the client gets a 502 for."""

CHUNKS = {
    "size of no digit": b"\r\nhello\r\n",
    "size of a letter": b"g\r\nhello\r\n",
    "size with a plus": b"+5\r\nhello\r\n",
    "size with a minus": b"-5\r\nhello\r\n",
    "size with 0x": b"0x5\r\nhello\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n",
    "size before a NUL": b"5\0\r\nhello\r\n",
    "size before a comma": b"5,\r\nhello\r\n",
    "extension too long": b"5;" + b"a" * 17_000 + b"\r\nhello\r\n",
    "extensions too long together": (b"1;" + b"a" * 2000 + b"\r\nh\r\n") * 9,
    "content longer than its size": b"3\r\nhello\r\n",
    "content shorter than its size": b"7\r\nhello\r\n",
    "content with another line end": b"5\r\nhelloXX",
    "response for a chunk": EVIL,
}
TRAILERS = {
    "trailer without a colon": b"0\r\nX\r\n\r\n",
    "trailers too many": b"0\r\n" + b"X: a\r\n" * 80 + b"\r\n",
    "trailers too long together": b"0\r\n" + (b"X: " + b"a" * 1000 + b"\r\n") * 20 + b"\r\n",
    "trailer too long": b"0\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
}
CUT: dict[str, bytes] = {name: CHUNKED + chunks + LAST_CHUNK for name, chunks in CHUNKS.items()} | {
    name: CHUNKED + b"5\r\nhello\r\n" + end for name, end in TRAILERS.items()
}
CUT["size before a vertical tab"] = CHUNKED + b"5\x0b\r\nhello\r\n" + LAST_CHUNK
CUT["size of 2 to the 64, and 5"] = CHUNKED + b"10000000000000005\r\nhello\r\n" + LAST_CHUNK
"""What breaks the client's connection, found out by the gateway."""

ENDED_EARLY = {
    "fixed, without content": OK + b"Content-Length: 6\r\n\r\n",
    "fixed, one byte short": OK + b"Content-Length: 6\r\n\r\nhello",
    "chunked, without a chunk": CHUNKED,
    "chunked, in a size": CHUNKED + b"5",
    "chunked, in a chunk": CHUNKED + b"5\r\nhell",
    "chunked, before a chunk's end": CHUNKED + b"5\r\nhello",
    "chunked, between chunks": CHUNKED + b"5\r\nhello\r\n",
    "chunked, in the last chunk": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "chunked, in the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX: a\r\n",
    "chunked, before the last line feed": CHUNKED + HELLO_CHUNKS[:-1],
    "chunk of 2 to the 64, and 5": CHUNKED + b"10000000000000005\r\nhello\r\n" + LAST_CHUNK,
}
"""What breaks the client's connection when the upstream ends its own there."""

FOLLOWED: dict[str, tuple[bytes, bytes, bytes]] = {
    "fixed": (b"GET", FIXED, b"hello"),
    "empty": (b"GET", OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunked": (b"GET", CHUNKED + HELLO_CHUNKS, b"hello"),
    "chunked with trailers": (b"GET", CHUNKED + HELLO_CHUNKS[:-2] + b"X: a\r\n\r\n", b"hello"),
    "204": (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "204 with content": (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", b""),
    "204 with chunks": (
        b"GET",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO_CHUNKS,
        b"",
    ),
    "304 with content": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", b""),
    "content for a HEAD": (b"HEAD", FIXED, b""),
    "chunks for a HEAD": (b"HEAD", CHUNKED + HELLO_CHUNKS, b""),
    "content without a length for a HEAD": (b"HEAD", OK + b"\r\nhello", b""),
    "empty line": (b"GET", FIXED + b"\r\n", b"hello"),
    "NUL": (b"GET", FIXED + b"\0", b"hello"),
}
"""A method, what follows its response as if there were more, and the content that the client gets."""


def ok(*fields: bytes, content: bytes = b"hello", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """What the client gets."""
    return b"\r\n".join((start, *fields, b"", content))


LENGTH = b"Content-Length: 5"
D = DATE[:-2]
CODED = ok(D, b"Transfer-Encoding: chunked", content=HELLO_CHUNKS)
PASSED: dict[str, tuple[bytes, bytes]] = {
    "no reason": (ok(D, LENGTH, start=b"HTTP/1.1 200 "), ok(D, LENGTH, start=b"HTTP/1.1 200 ")),
    "no reason and no space": (ok(D, LENGTH, start=b"HTTP/1.1 200"), ok(D, LENGTH, start=b"HTTP/1.1 200 ")),
    **{
        f"reason {reason!r}": (ok(D, LENGTH, start=line), ok(D, LENGTH, start=line))
        for reason in (b"HTTP/1.1 200 OK", b"X: a", b"  two  words ", b"a\tb", b"caf\xe9 \xff\x80", b"0")
        for line in (b"HTTP/1.1 200 " + reason,)
    },
    **{
        f"status {status}": (ok(D, LENGTH, start=line), ok(D, LENGTH, start=line))
        for status in (205, 299, 407, 500, 599, 600, 999)
        for line in (b"HTTP/1.1 %d X" % status,)
    },
    "HTTP/1.0": (ok(D, LENGTH, start=b"HTTP/1.0 200 OK"), ok(D, LENGTH)),
    "HTTP/1.0 that is kept": (
        ok(D, LENGTH, b"Connection: keep-alive", start=b"HTTP/1.0 200 OK"),
        ok(D, LENGTH),
    ),
    "until close": (OK + b"\r\nhello", CODED),
    "until close, like chunks": (
        OK + b"\r\n" + LAST_CHUNK,
        CODED.partition(END)[0] + END + b"5\r\n" + LAST_CHUNK + b"\r\n" + LAST_CHUNK,
    ),
    "until close, of HTTP/1.0": (OK.replace(b"1.1", b"1.0") + b"\r\nhello", CODED),
    "TE in upper case": (OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + HELLO_CHUNKS, CODED),
    "TE between white space": (OK + b"Transfer-Encoding: \tchunked \t\r\n\r\n" + HELLO_CHUNKS, CODED),
    "chunk extensions": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', CODED),
    "chunk extension of some length": (CHUNKED + b"5;" + b"a" * 5000 + b"\r\n" + HELLO_CHUNKS[3:], CODED),
    "chunk sizes that are padded": (CHUNKED + b"5   \r\nhello\r\n0   \r\n\r\n", CODED),
    # As nginx takes it.
    "chunk that ends with a line feed alone": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", CODED),
    "chunk sizes with noughts": (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", CODED),
    "trailers": (CHUNKED + HELLO_CHUNKS[:-2] + b"X: a\r\nSet-Cookie: a=b\r\n\r\n", CODED),
    "CL with noughts": (ok(D, b"content-length: 0005"), ok(D, b"content-length: 5")),
    "CL between white space": (ok(D, b"Content-Length: \t5 \t"), ok(D, LENGTH)),
    # RFC 9112 sections 2.2, 5.1, 5.2 and 6.3: mended, as browsers do; issue 16.12.
    "CL lines with one value": (
        ok(D, b"content-length: 5", b"X: a", LENGTH),
        ok(D, b"content-length: 5", b"X: a"),
    ),
    "CL list with one value": (ok(D, b"Content-Length: 5 ,5,5"), ok(D, LENGTH)),
    "CL lines and a list with one value": (ok(D, b"Content-Length: 5,5", LENGTH), ok(D, LENGTH)),
    "CL with a space before the colon": (ok(D, b"Content-Length : 5"), ok(D, LENGTH)),
    "TE with a space before the colon": (OK + b"Transfer-Encoding\t : chunked\r\n\r\n" + HELLO_CHUNKS, CODED),
    "white space before the colon": (ok(D, b"X : a", b"Y\t \t:b", LENGTH), ok(D, b"X: a", b"Y: b", LENGTH)),
    "Connection with a space before the colon": (
        ok(D, b"Connection : X-A", b"X-A : 1", LENGTH),
        ok(D, LENGTH),
    ),
    "folds": (
        ok(D, b"X: a \r\n  b\r\n\tc \r\n d", b"Y:\r\n e", LENGTH),
        ok(D, b"X: a b c d", b"Y: e", LENGTH),
    ),
    "line feeds alone": (ok(D, b"X:  \xe9 ", LENGTH).replace(b"\r\n", b"\n"), ok(D, b"X: \xe9", LENGTH)),
    "line feeds alone, and content like a head's end": (
        ok(D, b"X: a").replace(b"\r\n", b"\n") + b"\r\n\r\n",
        ok(D, b"X: a", b"Transfer-Encoding: chunked", content=b"9\r\nhello\r\n\r\n\r\n" + LAST_CHUNK),
    ),
    "line feeds alone between others": (
        ok(D, b"X: a\nY: b\n c", LENGTH, start=b"HTTP/1.1 200 OK\nZ: d"),
        ok(b"Z: d", D, b"X: a", b"Y: b c", LENGTH),
    ),
    "all of it": (
        ok(D, b"Content-Length : 5", b"X :a\r\n b", b"content-length: 5").replace(b"\r\n", b"\n"),
        ok(D, LENGTH, b"X: a b"),
    ),
    "CL that Connection names": (ok(D, b"Connection: Content-Length", LENGTH), ok(D, LENGTH)),
    "CL of a 204": (
        ok(D, b"Content-Length: 0", content=b"", start=b"HTTP/1.1 204 X"),
        ok(D, content=b"", start=b"HTTP/1.1 204 X"),
    ),
    "alias of Transfer-Encoding": (
        ok(D, LENGTH, b"Transfer_Encoding: chunked"),
        ok(D, LENGTH, b"Transfer_Encoding: chunked"),
    ),
    "hop-by-hop fields": (
        ok(D, b"Keep-Alive: 5", b"Proxy-Connection: a", b"TE: a", b"Trailer: X", b"Upgrade: h2c", LENGTH),
        ok(D, LENGTH),
    ),
    "fields that Connection names": (
        ok(D, b"X-A: 1", b"Connection: keep-alive, x-a, ,X-B", b"X-b: 2", b"X-C: 3", LENGTH),
        ok(D, b"X-C: 3", LENGTH),
    ),
    "Connection in two lines": (
        ok(D, b"Connection: X-A", b"X-A: 1", b"connection: X-B", b"X-B: 2", LENGTH),
        ok(D, LENGTH),
    ),
    "names in any spelling": (
        ok(b"dATE: x", b"SERVER: a", b"x-a: 1", b"X-A: 2", b"content-LENGTH: 5"),
        ok(b"dATE: x", b"SERVER: a", b"x-a: 1", b"X-A: 2", b"content-LENGTH: 5"),
    ),
    "values in any spelling": (
        ok(
            D, b"A:", b"B:b", b"C: \t c  c \t", b"D: \xe9\xff\x80", b"Set-Cookie: a", b"Set-Cookie: a", LENGTH
        ),
        ok(D, b"A: ", b"B: b", b"C: c  c", b"D: \xe9\xff\x80", b"Set-Cookie: a", b"Set-Cookie: a", LENGTH),
    ),
    "fields of a request": (
        ok(D, b"Host: b", b"Expect: 100-continue", b"HTTP_HOST: b", LENGTH),
        ok(D, b"Host: b", b"Expect: 100-continue", b"HTTP_HOST: b", LENGTH),
    ),
    "content coding that is none": (
        ok(D, b"Content-Encoding: gzip", LENGTH),
        ok(D, b"Content-Encoding: gzip", LENGTH),
    ),
    "content that reads like a response": (
        ok(D, b"Content-Length: %d" % len(EVIL), content=EVIL),
        ok(D, b"Content-Length: %d" % len(EVIL), content=EVIL),
    ),
    "1xx of every kind": (
        b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 102\r\nA: b\r\n\r\nHTTP/1.1 199 X\r\nContent-Length: 0\r\n\r\n"
        + FIXED,
        b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 102 \r\nA: b\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + FIXED,
    ),
}
"""Bytes of what is legal, and what the client gets of it."""

CLOSING = (
    "HTTP/1.0",
    "until close",
    "until close, like chunks",
    "until close, of HTTP/1.0",
    "line feeds alone, and content like a head's end",
)
