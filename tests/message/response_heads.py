"""Response heads to test with: read, and rendered for a client."""

from __future__ import annotations

from proxy.message.response import ResponseTable, render_response
from proxy.message.rewrite import UNTOUCHED

NOW = b"Sun, 06 Nov 1994 08:49:37 GMT"
DATE = b"Date: Mon, 01 Jan 2024 00:00:00 GMT"


def read(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", method: str = "GET"):
    return ResponseTable().read(b"\r\n".join([start, *lines, b"", b""]), method)


def render(
    *lines: bytes,
    treatment=UNTOUCHED,
    method="GET",
    minor=1,
    keep_alive=True,
    start=b"HTTP/1.1 200 OK",
    hides_validators=False,
):
    return render_response(
        read(*lines, start=start, method=method),
        treatment,
        method=method,
        client_minor=minor,
        keep_alive=keep_alive,
        now=NOW,
        hides_validators=hides_validators,
    )


def lines_of(outgoing) -> list[bytes]:
    assert outgoing.data.endswith(b"\r\n\r\n")
    return outgoing.data[:-4].split(b"\r\n")
