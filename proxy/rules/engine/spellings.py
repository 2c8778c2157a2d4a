"""Every spelling under which some WSGI server and Flask would reach a view, from the path as sent.

gunicorn, waitress and Werkzeug decode the path once; httpd and nginx remove dot segments after that, uWSGI
before it and with a decoder of its own; Werkzeug's routing drops leading slashes and merges inner ones;
some servers cut `;params`; routes whose expressions end with `$` (Werkzeug's up to 2.0, Django's by expression)
take a line feed after the end, too. A rule that is tried on all of these cannot be walked around.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

_SLASHES: Final = re.compile(rb"/{2,}")
_PARAMS: Final = re.compile(rb";[^/]*")
_SLASH: Final = ord("/")
_PERCENT: Final = ord("%")
_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
_ESCAPE_DIGITS: Final = 2


def spellings(path: bytes) -> list[str]:
    """Return the decoded paths that a request target's path may mean to the app.

    Args:
        path: the request target up to `?`, as sent.

    Returns:
        Each once, and only one for an ASCII path without escapes, double slashes, dot segments and `;`. Bytes
        that are not UTF-8 become U+FFFD, as in Werkzeug. A slash at the end is left as it is.
    """
    if path.isascii():
        text = path.decode("ascii")
        # Of text, not of bytes: there `in` raises and catches an error for each of these.
        if not ("%" in text or ";" in text or "//" in text or "/." in text):
            return [text]
    return _odd_spellings(path)


def with_other_end(path: str) -> str:
    """Return the path without the slash at its end, or with one: many apps answer to either."""
    return path[:-1] if path.endswith("/") else path + "/"


def _odd_spellings(path: bytes) -> list[str]:
    readings: set[bytes] = set()
    for raw in {path, _PARAMS.sub(b"", path)}:
        readings |= {unquote_to_bytes(raw), unquote_to_bytes(_remove_dot_segments(raw))}
        readings |= {
            _decode_as_uwsgi(raw),
            _decode_as_werkzeug(raw),
            _decode_as_werkzeug(_remove_dot_segments(raw)),
        }
    readings |= {_PARAMS.sub(b"", reading) for reading in readings}
    readings |= {reading.removesuffix(b"\n") for reading in readings}
    readings |= {_remove_dot_segments(reading) for reading in readings}
    readings |= {b"/" + reading.lstrip(b"/") for reading in readings}
    readings |= {_SLASHES.sub(b"/", reading) for reading in readings}
    readings |= {_remove_dot_segments(reading) for reading in readings}
    readings |= {b"/" + reading.lstrip(b"/") for reading in readings}
    return list({reading.decode("utf-8", "replace") for reading in readings})


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4; an empty segment counts as one, as in uWSGI."""
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    *segments, last = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if last == b"..":
        del kept[-1:]
    kept.append(b"" if last in (b".", b"..") else last)
    return b"/" + b"/".join(kept)


def _decode_as_werkzeug(path: bytes) -> bytes:
    """Decode as Werkzeug's own server does: raw bytes are latin-1, escapes UTF-8."""
    return unquote(path.decode("latin-1"), errors="replace").encode("utf-8", "replace")


def _decode_as_uwsgi(path: bytes) -> bytes:
    """Decode as uWSGI's `http_url_decode` does, in one pass with the removal of dot segments.

    An escape takes the two bytes after `%` whatever they are, a slash among them too; `%%` is `%`, two
    bytes that are no number are NUL, and an escape that is cut short is nothing. Only dots and slashes
    as sent make a dot segment, but what `..` takes away reaches back to any slash, an escaped one too.
    """
    segments: list[bytearray] = [bytearray()]
    may_be_dots = True  # no escape in this segment so far
    position = 1
    while position < len(path):
        byte = path[position]
        position += 1
        if byte == _SLASH:
            if not (may_be_dots and _end_dot_segment(segments)):
                segments.append(bytearray())
            may_be_dots = True
        elif byte != _PERCENT:
            segments[-1].append(byte)
        else:
            may_be_dots = False
            decoded, position = _uwsgi_escape(path, position)
            segments[-1] += decoded
    if may_be_dots:
        _end_dot_segment(segments)
    return b"/" + b"/".join(segments)


def _end_dot_segment(segments: list[bytearray]) -> bool:
    """Take away the last segment if it is `.`, and with `..` the one before it; whether it was either."""
    if segments[-1] == b".":
        segments[-1].clear()
        return True
    if segments[-1] == b"..":
        del segments[-1]
        before, slash, _ = segments.pop().rpartition(b"/") if segments else (b"", b"", b"")
        segments += [bytearray(before), bytearray()] if slash else [bytearray()]
        return True
    return False


def _uwsgi_escape(path: bytes, position: int) -> tuple[bytes, int]:
    if path[position : position + 1] == b"%":
        return b"%", position + 1
    digits = path[position : position + 2]
    if len(digits) < _ESCAPE_DIGITS:
        return b"", len(path)
    is_number = all(digit in _HEX_DIGITS for digit in digits)
    return (bytes((int(digits, 16),)) if is_number else b"\0"), position + _ESCAPE_DIGITS
