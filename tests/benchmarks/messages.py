"""The bytes that upstream and load agree on: what is asked for, what is answered, and what must arrive."""

from __future__ import annotations

import json
from typing import Final

PIECES: Final = 20
KIB: Final = 1024
MIB: Final = 1024 * KIB

ENFORCED: Final = b"no-store, no-cache, must-revalidate, post-check=0, pre-check=0"
"""The Cache-Control of policy `classic`; every peer sets it."""

STORABLE: Final = b"public, max-age=3600"
"""The Cache-Control of the upstream, which must not arrive where a rule matched."""

SMALL_CONTENT: Final = json.dumps(
    {
        "id": 48151,
        "name": "quarterly-report.pdf",
        "uploaded_by": "j.doe",
        "uploaded_at": "2012-03-14T09:26:53Z",
        "size": 161803,
        "tags": ["finance", "q1", "final"],
        "checksum": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    }
).encode()

PIECE: Final = b"0123456789abcdef" * 32
STREAM_CONTENT: Final = PIECE * PIECES
BLOCK_64_KIB: Final = bytes(range(256)) * 256
BLOCK_1_MIB: Final = BLOCK_64_KIB * 16
RECEIVED: Final = b'{"received": 1048576}'


def response(content: bytes, *, chunked: bool = False, content_type: bytes = b"application/json") -> bytes:
    """Return a response with the ten fields of a legacy Flask app; of a chunked one only the head."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(content)
    head = b"\r\n".join(
        [
            b"HTTP/1.1 200 OK",
            b"Server: Werkzeug/0.8.3 Python/2.7.2",
            b"Date: Wed, 14 Mar 2012 09:26:53 GMT",
            b"Content-Type: " + content_type,
            framing,
            b"Cache-Control: " + STORABLE,
            b'ETag: "33a64df551425fcc55e4d42a148795d9f25f89d4"',
            b"Last-Modified: Tue, 13 Mar 2012 17:00:00 GMT",
            b"Vary: Cookie",
            b"Set-Cookie: session=eyJ1c2VyIjo0Mn0.T2BqLQ.Qz4nO1m2; HttpOnly; Path=/",
            b"X-Frame-Options: SAMEORIGIN",
        ]
    )
    return head + b"\r\n\r\n" + (b"" if chunked else content)


BROWSER_FIELDS: Final = b"\r\n".join(
    [
        b"Host: intranet.example",
        b"Connection: keep-alive",
        b'sec-ch-ua: "Chromium";v="130", "Microsoft Edge";v="130", "Not?A_Brand";v="99"',
        b"sec-ch-ua-mobile: ?0",
        (
            b"User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            b"Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0"
        ),
        b"Accept: application/json, text/javascript, */*; q=0.01",
        b"Sec-Fetch-Site: same-origin",
        b"Sec-Fetch-Mode: cors",
        b"Sec-Fetch-Dest: empty",
        b"Referer: http://intranet.example/files/overview?folder=finance",
        b"Accept-Encoding: gzip, deflate",
        b"Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    ]
)
"""Twelve request fields of a browser; a Cookie and X-Requested-With make it fourteen."""

COOKIE: Final = b"Cookie: session=eyJ1c2VyIjo0Mn0.T2BqLQ.Qz4nO1m2; theme=dark"
SCRIPT_FIELD: Final = b"X-Requested-With: XMLHttpRequest"


def navigation(line: bytes) -> bytes:
    """Return what a browser sends when its user follows a link: no rule of the shipped ones matches."""
    head = request(line, COOKIE)
    return head.replace(b"Mode: cors", b"Mode: navigate").replace(b"Dest: empty", b"Dest: document")


def request(line: bytes, *fields: bytes) -> bytes:
    """Return the head of a script's request: the browser's twelve fields and those given."""
    return b"\r\n".join([line + b" HTTP/1.1", BROWSER_FIELDS, *fields]) + b"\r\n\r\n"
