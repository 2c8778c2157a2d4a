"""How WSGI servers turn a request into a WSGI environment, without sockets: mostly their own code.

Each decoder takes the method and the request target as they arrive and returns what the app is given, or
`None` if the server refuses the request. uWSGI and httpd are not written in Python: their algorithms are
stated anew here, and a test holds the first against the real server.
"""

from __future__ import annotations

import io
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from gunicorn.config import Config
from gunicorn.http import wsgi as gunicorn_wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request as GunicornRequest
from gunicorn.http.unreader import IterUnreader
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser
from waitress.task import WSGITask
from werkzeug.serving import WSGIRequestHandler

_CLIENT = ("127.0.0.1", 50000)
_SERVER = ("127.0.0.1", 80)


@dataclass(frozen=True, slots=True)
class Routed:
    """What the app routes on.

    Attributes:
        method: `REQUEST_METHOD`.
        path_info: `PATH_INFO`, as WSGI has it: bytes decoded as latin-1.
    """

    method: str
    path_info: str


Decoder = Callable[[str, bytes], Routed | None]


def gunicorn(method: str, target: bytes) -> Routed | None:
    """gunicorn's request parser and environment, both its own."""
    try:
        request = GunicornRequest(_GUNICORN, IterUnreader([_head(method, target)]), _CLIENT, 1)
        _, environ = gunicorn_wsgi.create(request, None, _CLIENT, _SERVER, _GUNICORN)
    except (ParseException, ValueError):
        return None
    return _routed(environ)


def waitress(method: str, target: bytes) -> Routed | None:
    """waitress's request parser and environment, both its own."""
    parser = HTTPRequestParser(_WAITRESS)
    parser.received(_head(method, target))
    if parser.error is not None or not parser.completed:
        return None
    server = types.SimpleNamespace(adj=_WAITRESS, effective_port=80, server_name="a")
    channel = types.SimpleNamespace(server=server, addr=_CLIENT, check_client_disconnected=None)
    return _routed(WSGITask(channel, parser).get_environment())


def werkzeug(method: str, target: bytes) -> Routed | None:
    """Werkzeug's request handler over the standard library's parser, both their own."""
    handler = _WerkzeugHandler.__new__(_WerkzeugHandler)
    try:
        return _routed(handler.environ_for(_head(method, target)))
    except ValueError:  # urlsplit refuses unbalanced brackets
        return None


def uwsgi(method: str, target: bytes) -> Routed | None:
    """uWSGI 2.0, `http_parse` and `http_url_decode`: the state machine, stated anew."""
    path = target.partition(b"?")[0].partition(b"#")[0]
    return Routed(method, uwsgi_decode(path).decode("latin-1"))


def httpd(method: str, target: bytes) -> Routed | None:
    """httpd with mod_wsgi as shipped: refuses %2F, merges slashes, removes dot segments after decoding."""
    path = target.partition(b"?")[0]
    if b"%2f" in path.lower() or b"%00" in path or not path.startswith(b"/"):
        return None
    segments: list[bytes] = []
    merged = unquote_to_bytes(path)
    while b"//" in merged:
        merged = merged.replace(b"//", b"/")
    *inner, last = merged.split(b"/")[1:]
    for segment in inner:
        if segment == b"..":
            del segments[-1:]
        elif segment != b".":
            segments.append(segment)
    if last == b"..":
        del segments[-1:]
    segments.append(b"" if last in (b".", b"..") else last)
    return Routed(method, (b"/" + b"/".join(segments)).decode("latin-1"))


def wsgiref(method: str, target: bytes) -> Routed | None:
    """`http.server` and `wsgiref`, on which Django's runserver is built: what `str.split` splits at ends the target."""
    path = _word(target)
    if path is None:
        return None
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    return Routed(method, unquote(path.partition("?")[0], "latin-1"))


def gevent(method: str, target: bytes) -> Routed | None:
    """gevent's pywsgi, and eventlet's, which read the request line alike and keep leading slashes."""
    path = _word(target)
    return None if path is None else Routed(method, unquote(path.partition("?")[0], "latin-1"))


def cheroot(method: str, target: bytes) -> Routed | None:
    """cheroot, `HTTPRequest.read_request_line`: refuses fragments and `//host`, and leaves `%2F` encoded."""
    try:
        scheme, authority, path, _, fragment = urlsplit(target)
    except ValueError:
        return None
    if scheme or authority or fragment:
        return None
    atoms = [unquote_to_bytes(atom) for atom in re.split(b"(?i)%2F", path)]
    return Routed(method, b"%2F".join(atoms).decode("latin-1"))


def waitress_1_3_0(method: str, target: bytes) -> Routed | None:
    """waitress up to 1.3.0: what follows two slashes is a host."""
    try:
        path = urlsplit(target).path
    except ValueError:
        return None
    return Routed(method, "/" + unquote_to_bytes(path).decode("latin-1").lstrip("/"))


def asgi(method: str, target: bytes) -> Routed | None:
    """uvicorn and hypercorn with an adapter for WSGI: the path is text, decoded once."""
    path = target.partition(b"?")[0]
    return (
        Routed(method, unquote(path.decode("ascii")).encode().decode("latin-1")) if path.isascii() else None
    )


def tornado(method: str, target: bytes) -> Routed | None:
    """Tornado's `WSGIContainer`."""
    return Routed(method, unquote_to_bytes(target.partition(b"?")[0]).decode("latin-1"))


def _word(target: bytes) -> str | None:
    """What `str.split` leaves of a target; a request line with one more word is refused."""
    words = target.decode("latin-1").split()
    return words[0] if len(words) == 1 else None


DECODERS: dict[str, Decoder] = {
    "gunicorn": gunicorn,
    "waitress": waitress,
    "werkzeug": werkzeug,
    "uwsgi": uwsgi,
    "httpd": httpd,
    "wsgiref": wsgiref,
    "django": wsgiref,
    "gevent": gevent,
    "eventlet": gevent,
    "cheroot": cheroot,
    "waitress 1.3.0": waitress_1_3_0,
    "uvicorn": asgi,
    "hypercorn": asgi,
    "tornado": tornado,
}


def uwsgi_decode(path: bytes) -> bytes:
    """Decode a path as uWSGI does.

    A slash is held back until the next byte tells whether a dot segment follows. An escape takes the two
    bytes after `%`, whatever they are: a slash among them begins no segment, and no number counts as 0.
    """
    written = bytearray()
    held = b""  # "/", "/." or "/..": not yet written, as it may go away
    position = 0
    while position < len(path):
        byte = path[position : position + 1]
        position += 1
        if held == b"/" and byte == b".":
            held = b"/."
        elif held == b"/." and byte in b"./":
            held = b"/.." if byte == b"." else b"/"
        elif held == b"/.." and byte == b"/":
            _drop_last_segment(written)
            held = b"/"
        elif byte == b"/" and not held:
            held = b"/"
        else:
            written += held
            # Only after a whole slash does another begin a segment: `/.//` cannot come here, `/..x/` can.
            was_slash, held = held == b"/", b""
            if byte == b"%":
                decoded, position = _uwsgi_escape(path, position)
                written += decoded
            elif byte == b"/" and was_slash:
                held = b"/"
            else:
                written += byte
    if held in (b"/", b"/."):
        written += b"/"
    elif held == b"/..":
        while written and written[-1:] != b"/":
            written.pop()
    return bytes(written)


def _drop_last_segment(written: bytearray) -> None:
    while written:
        if written.pop() == ord("/"):
            return


def _uwsgi_escape(path: bytes, position: int) -> tuple[bytes, int]:
    if path[position : position + 1] == b"%":
        return b"%", position + 1
    digits = path[position : position + 2]
    if len(digits) < 2:
        return b"", len(path)
    is_hex = all(digit in b"0123456789abcdefABCDEF" for digit in digits)
    return bytes([int(digits, 16) if is_hex else 0]), position + 2


def _head(method: str, target: bytes) -> bytes:
    return method.encode("ascii") + b" " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def _routed(environ: dict[str, Any]) -> Routed:
    return Routed(environ["REQUEST_METHOD"], environ["PATH_INFO"])


_GUNICORN = Config()
_WAITRESS = Adjustments(host="127.0.0.1", port=0)


class _WerkzeugHandler(WSGIRequestHandler):
    """Parses a request from bytes instead of a connection."""

    server = types.SimpleNamespace(  # type: ignore[assignment]
        ssl_context=None,
        multithread=False,
        multiprocess=False,
        server_address=_SERVER,
        _server_version="Werkzeug",
    )
    connection = None  # type: ignore[assignment]
    client_address = _CLIENT

    def environ_for(self, head: bytes) -> dict[str, Any]:
        line, _, rest = head.partition(b"\r\n")
        self.raw_requestline = line + b"\r\n"
        self.rfile = io.BytesIO(rest)  # type: ignore[assignment]
        self.wfile = io.BytesIO()  # type: ignore[assignment]
        self.request_version = ""
        if not self.parse_request():
            raise ValueError("refused")
        return self.make_environ()

    def log(self, *_: object) -> None: ...

    def log_request(self, *_: object) -> None: ...

    def send_error(self, *_: object, **__: object) -> None: ...
