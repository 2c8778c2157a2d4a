"""Hostile and odd requests, for `test_hostile.py`: a table for each fate."""

from __future__ import annotations

HEAD = b"GET /first HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /first HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def with_line(line: bytes) -> bytes:
    return b"GET %b\r\nHost: a\r\n\r\n" % line


def with_field(field: bytes) -> bytes:
    return HEAD + field + END


def named(values: dict[str, bytes], template: bytes) -> dict[str, bytes]:
    """Put each value where the template has `@`."""
    return {name: template.replace(b"@", value) for name, value in values.items()}


FRAMING = {
    "Content-Length, then Transfer-Encoding": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    + LAST_CHUNK,
    "Transfer-Encoding, then Content-Length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
    + LAST_CHUNK,
    "Content-Length 0 and Transfer-Encoding": POST
    + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
    + LAST_CHUNK,
    "Content-Length and identity": POST + b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello",
    "Transfer-Encoding that Connection names": POST
    + b"Connection: Transfer-Encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    + LAST_CHUNK,
    "Transfer-Encoding in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + LAST_CHUNK,
}
CODINGS = {
    "TE chunked, identity": b": chunked, identity",
    "TE identity, chunked": b": identity, chunked",
    "TE identity": b": identity",
    "TE gzip": b": gzip",
    "TE gzip, chunked": b": gzip, chunked",
    "TE chunked, gzip": b": chunked, gzip",
    "TE chunked twice": b": chunked, chunked",
    "TE chunked, nothing": b": chunked,",
    "TE nothing, chunked": b": ,chunked",
    "TE xchunked": b": xchunked",
    "TE chunkedx": b": chunkedx",
    "TE with a parameter": b": chunked;q=1",
    "TE quoted": b': "chunked"',
    "TE empty": b":",
    "TE with a no-break space": b": \xa0chunked",
    "TE after a vertical tab": b": \x0bchunked",
    "TE before a vertical tab": b": chunked\x0b",
    "TE before a form feed": b": chunked\x0c",
    "TE before a NUL": b": chunked\0",
    "TE before a bare CR": b": chunked\r",
    "TE after a bare CR": b":\rchunked",
    "TE folded": b":\r\n chunked",
    "TE folded within": b": chun\r\n\tked",
    "TE with a space before the colon": b" : chunked",
    "TE with a tab before the colon": b"\t: chunked",
    "TE with a NUL in its name": b"\0: chunked",
    "TE lines: chunked, chunked": b": chunked\r\nTransfer-Encoding: chunked",
    "TE lines: chunked, identity": b": chunked\r\nTransfer-Encoding: identity",
    "TE lines: identity, chunked": b": identity\r\ntransfer-encoding: chunked",
    "TE lines: chunked, empty": b": chunked\r\nTransfer-Encoding:",
}
LENGTHS = {
    "CL lines with one value": b": 5\r\nContent-Length: 5",
    "CL lines with two values": b": 5\r\ncontent-length: 6",
    "CL list": b": 5, 5",
    "CL list of one": b": 5,",
    "CL with a plus": b": +5",
    "CL with a minus": b": -5",
    "CL minus nought": b": -0",
    "CL empty": b":",
    "CL of a space": b":  ",
    "CL with an underscore": b": 0_5",
    "CL hexadecimal": b": 0x5",
    "CL decimal fraction": b": 5.0",
    "CL with an exponent": b": 5e0",
    "CL with a space within": b": 0 5",
    "CL with a parameter": b": 5;",
    "CL quoted": b': "5"',
    "CL of an Arabic digit": b": \xd9\xa5",
    "CL of a superscript": b": \xb5",
    "CL with a letter": b": 5a",
    "CL before a NUL": b": 5\0",
    "CL before a vertical tab": b": 5\x0b",
    "CL folded": b":\r\n 5",
    "CL with a space before the colon": b" : 5",
    "CL beyond 64 bits": b": 18446744073709551621",
    "CL beyond all counting": b": " + b"9" * 200,
}
FIELDS = {
    "bare CR in a value": b"X: a\rb",
    "bare CR before the line's end": b"X: a\r",
    "bare LF in a value": b"X: a\nY: b",
    "bare LF that ends the head": b"X: a\n\n",
    "fold with a space": b"X: a\r\n b",
    "fold with a tab": b"X: a\r\n\tb",
    "fold of nothing": b"X: a\r\n ",
    "space before the colon": b"X : a",
    "tab before the colon": b"X\t: a",
    "space within a name": b"X Y: a",
    "space before a name": b"X: a\r\n Content-Length: 5",
    "NUL in a value": b"X: a\0b",
    "NUL in a name": b"X\0: a",
    "DEL in a value": b"X: a\x7f",
    "DEL in a name": b"X\x7f: a",
    "vertical tab in a value": b"X: a\x0bb",
    "escape in a value": b"X: \x1b[2J",
    "no colon": b"X",
    "no name": b": a",
    "colon alone": b":",
    "parenthesis in a name": b"X(1): a",
    "slash in a name": b"X/1: a",
    "at sign in a name": b"X@1: a",
    "quote in a name": b'"X": a',
    "brace in a name": b"{X}: a",
    "byte above ASCII in a name": b"X\xe9: a",
    "request line for a field": b"GET /admin HTTP/1.1",
    "two Host lines": b"Host: a",
    "two Host lines, spelt in two ways": b"HOST: b",
}
HOSTS = {
    "Host of a list": b"a, b",
    "Host with a path": b"a/b",
    "Host with a user": b"u@a",
    "Host with a space": b"a b",
    "Host with a port of letters": b"a:b",
    "Host with two ports": b"a:1:2",
    "Host with an open bracket": b"[::1",
    "Host with a fragment": b"a#b",
    "Host with a byte above ASCII": b"\xe9",
}
LINES = {
    "HTTP/0.9": b"/first",
    "HTTP/0.9 with a space": b"/first ",
    "HTTP/1.2": b"/first HTTP/1.2",
    "HTTP/1.10": b"/first HTTP/1.10",
    "HTTP/01.1": b"/first HTTP/01.1",
    "HTTP/2.0": b"/first HTTP/2.0",
    "http in lower case": b"/first http/1.1",
    "version without a name": b"/first 1.1",
    "space after the version": b"/first HTTP/1.1 ",
    "tab after the version": b"/first HTTP/1.1\t",
    "two spaces before the target": b" /first HTTP/1.1",
    "two spaces before the version": b"/first  HTTP/1.1",
    "tab before the version": b"/first\tHTTP/1.1",
    "space in the target": b"/fi rst HTTP/1.1",
    "tab in the target": b"/fi\trst HTTP/1.1",
    "NUL in the target": b"/first\0 HTTP/1.1",
    "control byte in the target": b"/first\x01 HTTP/1.1",
    "DEL in the target": b"/first\x7f HTTP/1.1",
    "bare CR in the target": b"/first\r HTTP/1.1",
    "bare CR before the line's end (line)": b"/first HTTP/1.1\r",
    "no target": b" HTTP/1.1",
    "target without a slash": b"first HTTP/1.1",
    "authority-form for a GET": b"a:443 HTTP/1.1",
    "asterisk for a GET": b"* HTTP/1.1",
    "query alone": b"?x HTTP/1.1",
    "absolute-form with another host": b"http://b/first HTTP/1.1",
    "absolute-form with another port": b"http://a:81/first HTTP/1.1",
    "absolute-form with a user": b"http://u@a/first HTTP/1.1",
    "absolute-form without a host": b"http:///first HTTP/1.1",
    "absolute-form with a backslash": b"http://a\\b/first HTTP/1.1",
    "absolute-form with another scheme": b"ftp://a/first HTTP/1.1",
}
STARTS = {
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH banner": b"SSH-2.0-OpenSSH_9.6\r\n",
    "method in lower case": b"get /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "method in mixed case": b"Get /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with a dot": b"G.T /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with a control byte": b"GE\x01T /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "method without a space": b"GET/first HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab after the method": b"GET\t/first HTTP/1.1\r\nHost: a\r\n\r\n",
    "space before the method": b" GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare LF before the method": b"\nGET /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare CR before the method": b"\rGET /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "response for a request": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "line feeds alone": b"GET /first HTTP/1.1\nHost: a\n\n",
    "no Host": b"GET /first HTTP/1.1\r\n\r\n",
    "no Host in absolute-form": b"GET http://a/first HTTP/1.1\r\n\r\n",
    "space before the first field": b"GET /first HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n",
    "NUL alone": b"\0",
}
OTHERS = {
    "CONNECT": (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target too long": (414, b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "query too long": (414, b"GET /?" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "value too long": (431, with_field(b"X: " + b"x" * 5000)),
    "name too long": (431, with_field(b"x" * 5000 + b": a")),
    "fields too many": (431, with_field(b"\r\n".join([b"a:"] * 256))),
    "content too long": (413, POST + b"Content-Length: 65\r\n\r\n" + b"x" * 65),
    "content far too long": (413, POST + b"Content-Length: 999999999999999999\r\n\r\n" + b"x" * 65),
}
REFUSED: dict[str, tuple[int, bytes]] = OTHERS | {
    name: (400, data)
    for name, data in (
        FRAMING
        | named(CODINGS, POST + b"Transfer-Encoding@\r\n\r\n" + LAST_CHUNK)
        | named(LENGTHS, POST + b"Content-Length@\r\n\r\nhello")
        | named(FIELDS, HEAD + b"@\r\n\r\n")
        | named(HOSTS, b"GET /first HTTP/1.1\r\nHost: @\r\n\r\n")
        | named(LINES, b"GET @\r\nHost: a\r\n\r\n")
        | STARTS
    ).items()
}
"""Status and bytes of what is refused by its head."""

CHUNKS = {
    "size of no digit": b"\r\nhello\r\n",
    "size of a letter": b"g\r\nhello\r\n",
    "size with a plus": b"+5\r\nhello\r\n",
    "size with a minus": b"-5\r\nhello\r\n",
    "size with 0x": b"0x5\r\nhello\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n",
    "size after a space": b" 5\r\nhello\r\n",
    "size before a space": b"5 \r\nhello\r\n",
    "size before a tab": b"5\t\r\nhello\r\n",
    "size before a vertical tab": b"5\x0b\r\nhello\r\n",
    "size before a NUL": b"5\0\r\nhello\r\n",
    "size before a comma": b"5,\r\nhello\r\n",
    "size with a bare LF": b"5\nhello\r\n",
    "size with a bare CR": b"5\rhello\r\n",
    "size with two line ends": b"5\r\n\r\nhello\r\n",
    "extension with a bare LF": b"5;a\nb\r\nhello\r\n",
    "extension too long": b"5;" + b"a" * 17_000 + b"\r\nhello\r\n",
    "extensions too long together": (b"1;" + b"a" * 2000 + b"\r\nh\r\n") * 9,
    "content longer than its size": b"3\r\nhello\r\n",
    "content shorter than its size": b"6\r\nhello\r\n",
    "content without its line end": b"5\r\nhello",
    "content with a bare LF": b"5\r\nhello\n",
    "content with a bare CR": b"5\r\nhello\r",
    "content with another line end": b"5\r\nhelloXX",
}
TRAILERS = {
    "last chunk with a bare LF": b"0\n\r\n",
    "last chunk with line feeds alone": b"0\n\n",
    "last chunk, then a bare LF": b"0\r\n\n",
    "trailer without a colon": b"0\r\nX\r\n\r\n",
    "trailer with a space before the colon": b"0\r\nX : a\r\n\r\n",
    "trailer that is folded": b"0\r\nX: a\r\n b\r\n\r\n",
    "trailer with a NUL": b"0\r\nX: a\0\r\n\r\n",
    "trailer with a bare LF": b"0\r\nX: a\n\r\n",
    "trailer too long": b"0\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
    "trailers too many": b"0\r\n" + b"X: a\r\n" * 80 + b"\r\n",
    "request for a trailer": b"0\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
}
CUT: dict[str, tuple[int, bytes]] = {
    "chunks too many": (413, CHUNKED + b"28\r\n" + b"x" * 40 + b"\r\n28\r\n" + b"x" * 40 + b"\r\n0\r\n\r\n"),
    **{name: (400, CHUNKED + chunk + LAST_CHUNK) for name, chunk in CHUNKS.items()},
    **{name: (400, CHUNKED + b"5\r\nhello\r\n" + end) for name, end in TRAILERS.items()},
}
"""Status and bytes of what is refused by its content, when the head may be with the app already."""

UNCOUNTABLE = {
    "size of 2 to the 64": b"10000000000000000\r\nhello\r\n",
    "size of 2 to the 64, and 5": b"10000000000000005\r\nhello\r\n",
}
# Content that two parsers may end at different places.
AMBIGUOUS = UNCOUNTABLE | {
    "trailer of Content-Length": b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "trailer of Transfer-Encoding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "extension with a bare CR": b"5;a\rb\r\nhello\r\n" + LAST_CHUNK,
    "extension with a NUL": b"5;a=\0\r\nhello\r\n" + LAST_CHUNK,
}
CUT |= {name: (400, CHUNKED + chunks + LAST_CHUNK) for name, chunks in AMBIGUOUS.items()}


def get(*fields: bytes, target: bytes = b"/first") -> bytes:
    """What the app gets of a GET."""
    lines = (b"GET " + target + b" HTTP/1.1", b"Host: a", *fields)
    return b"\r\n".join(lines) + END


def post(*fields: bytes, content: bytes = b"hello") -> bytes:
    """What the app gets of a POST with content in the framing that `Content-Length` or else the chunks tell."""
    return get(*fields).replace(b"GET", b"POST", 1) + content


HELLO = b"Content-Length: 5"
CODED = post(b"Transfer-Encoding: chunked", content=b"5\r\nhello\r\n0\r\n\r\n")
HELLO_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
FORWARDED: dict[str, tuple[bytes, bytes]] = {
    "TE in upper case": (POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + HELLO_CHUNKS, CODED),
    "TE after two spaces": (POST + b"Transfer-Encoding:  chunked\r\n\r\n" + HELLO_CHUNKS, CODED),
    "TE between tabs": (POST + b"Transfer-Encoding:\tchunked\t\r\n\r\n" + HELLO_CHUNKS, CODED),
    "TE without white space": (POST + b"Transfer-Encoding:chunked\r\n\r\n" + HELLO_CHUNKS, CODED),
    "chunk extension": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', CODED),
    "chunk size with noughts": (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", CODED),
    "chunk extension of some length": (CHUNKED + b"5;" + b"a" * 5000 + b"\r\n" + HELLO_CHUNKS[3:], CODED),
    "trailer of no meaning": (CHUNKED + HELLO_CHUNKS[:-2] + b"Cookie: b\r\nX: a\r\n\r\n", CODED),
    "CL of nought with noughts": (
        POST + b"content-length: 000\r\n\r\n",
        post(b"content-length: 0", content=b""),
    ),
    "CL with noughts": (POST + b"Content-Length: 0005\r\n\r\nhello", post(HELLO)),
    "CL without white space": (POST + b"Content-Length:5\r\n\r\nhello", post(HELLO)),
    "CL between white space": (POST + b"Content-Length: \t5 \t\r\n\r\nhello", post(HELLO)),
    "CL that Connection names": (
        POST + b"Connection: Content-Length\r\n" + HELLO + END + b"hello",
        post(HELLO),
    ),
    "content that reads like a request": (
        POST + b"Content-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
        post(b"Content-Length: %d" % len(SECOND), content=SECOND),
    ),
    "content of a GET": (HEAD + HELLO + END + b"hello", get(HELLO) + b"hello"),
    "alias of Transfer-Encoding": (
        POST + HELLO + b"\r\nTransfer_Encoding: chunked\r\n\r\nhello",
        post(HELLO),
    ),
    "alias of Content-Length": (POST + HELLO + b"\r\nContent_Length: 500\r\n\r\nhello", post(HELLO)),
    "alias of Host": (with_field(b"HTTP_HOST: b"), get()),
    "alias of a field that rules read": (with_field(b"X_Requested-With: XMLHttpRequest"), get()),
    "alias of a forwarding field": (with_field(b"X_Forwarded_For: 192.0.2.1"), get()),
    "underscore of no meaning": (with_field(b"_: a"), get()),
    "Host that Connection names": (with_field(b"Connection: Host"), get()),
    "fields that Connection names": (
        with_field(b"X-A: 1\r\nConnection: keep-alive, x-a, ,X-B\r\nX-b: 2\r\nX-C: 3"),
        get(b"X-C: 3"),
    ),
    "Connection in two lines": (with_field(b"Connection: X-A\r\nX-A: 1\r\nconnection: X-B\r\nX-B: 2"), get()),
    "hop-by-hop fields": (
        with_field(b"Keep-Alive: 5\r\nProxy-Connection: a\r\nTE: trailers, deflate\r\nTrailer: X"),
        get(),
    ),
    "upgrade that Connection does not name": (with_field(b"Upgrade: websocket"), get()),
    "upgrade to HTTP/2": (
        with_field(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"),
        get(),
    ),
    "absolute-form": (with_line(b"http://a/first HTTP/1.1"), get()),
    "absolute-form in upper case": (with_line(b"HTTP://A/first HTTP/1.1"), get()),
    "absolute-form without a path": (with_line(b"http://a HTTP/1.1"), get(target=b"/")),
    "absolute-form with a query alone": (with_line(b"http://a?x HTTP/1.1"), get(target=b"/?x")),
    "absolute-form with two slashes": (with_line(b"https://a//b/c HTTP/1.1"), get(target=b"//b/c")),
    "target of two slashes": (with_line(b"//b/first HTTP/1.1"), get(target=b"//b/first")),
    "target with an at sign": (with_line(b"/@b:80/x HTTP/1.1"), get(target=b"/@b:80/x")),
    "target with coded control bytes": (
        with_line(b"/%00%0d%0aX:%20a HTTP/1.1"),
        get(target=b"/%00%0d%0aX:%20a"),
    ),
    "target with a backslash": (with_line(b"/a\\..\\b HTTP/1.1"), get(target=b"/a\\..\\b")),
    "target with dot segments": (with_line(b"/a/../%2e%2e/b HTTP/1.1"), get(target=b"/a/../%2e%2e/b")),
    "target with bytes above ASCII": (with_line(b"/\xc3\xa9?\xe9 HTTP/1.1"), get(target=b"/\xc3\xa9?\xe9")),
    "target in the query": (with_line(b"/?http://b/ HTTP/1.1"), get(target=b"/?http://b/")),
    "asterisk for OPTIONS": (
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        get(target=b"*").replace(b"GET", b"OPTIONS", 1),
    ),
    "empty lines before the method": (b"\r\n\r\n" + HEAD + b"\r\n", get()),
    "Host without a value": (b"GET /first HTTP/1.1\r\nHost:\r\n\r\n", get().replace(b"Host: a", b"Host: ")),
    "value without white space": (with_field(b"X:a"), get(b"X: a")),
    "value between white space": (with_field(b"X: \t a b \t"), get(b"X: a b")),
    "value of white space": (with_field(b"X:   "), get(b"X: ")),
    "value with bytes above ASCII": (with_field(b"X: \xe9\xff\x80"), get(b"X: \xe9\xff\x80")),
    "HTTP/1.0": (b"GET /first HTTP/1.0\r\nHost: a\r\n\r\n", get()),
    "HTTP/1.0 that is kept": (
        b"GET /first HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        get(),
    ),
    "Connection: close": (with_field(b"Connection: close"), get()),
}
"""Bytes of what is legal when it is rendered anew, and what the app gets of it."""

CLOSING = ("HTTP/1.0", "Connection: close")
