"""Every spelling under which some WSGI server and Flask would reach a view, from the path as sent.

gunicorn, waitress and Werkzeug decode the path once; httpd and nginx remove dot segments after that, uWSGI
before it and with a decoder of its own; Werkzeug's routing drops leading slashes and merges inner ones;
some servers cut `;params`. A rule that is tried on all of these cannot be walked around.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_SLASHES: Final = re.compile(rb"/{2,}")
_PARAMS: Final = re.compile(rb";[^/]*")
_UWSGI_ESCAPE: Final = re.compile(rb"%(?:(%)|(.)(.))", re.DOTALL)


def spellings(path: bytes) -> frozenset[str]:
    """Return the decoded paths that a request target's path may mean to the app.

    Args:
        path: the request target up to `?`, as sent.

    Returns:
        At least one, and exactly one for a path without escapes, double slashes, dot segments and `;`.
        Bytes that are not UTF-8 become U+FFFD, as in Werkzeug. A slash at the end is left as it is.
    """
    if not (b"%" in path or b"//" in path or b"/." in path or b";" in path):
        return frozenset((path.decode("utf-8", "replace"),))
    readings: set[bytes] = set()
    for raw in {path, _PARAMS.sub(b"", path)}:
        readings |= {
            unquote_to_bytes(raw),
            unquote_to_bytes(_remove_dot_segments(raw)),
            _decode_as_uwsgi(raw),
        }
    readings |= {_PARAMS.sub(b"", reading) for reading in readings}
    readings |= {_remove_dot_segments(reading) for reading in readings}
    readings |= {b"/" + reading.lstrip(b"/") for reading in readings}
    readings |= {_SLASHES.sub(b"/", reading) for reading in readings}
    readings |= {_remove_dot_segments(reading) for reading in readings}
    return frozenset(reading.decode("utf-8", "replace") for reading in readings)


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


def _decode_as_uwsgi(path: bytes) -> bytes:
    """Decode as uWSGI's `http_url_decode` does: dots first, `%%` is `%`, a bad hex digit counts as 0 (`%7z` is `p`)."""
    return _UWSGI_ESCAPE.sub(_uwsgi_byte, _remove_dot_segments(path))


def _uwsgi_byte(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return b"%"
    high, low = (
        int(digit, 16) if digit in b"0123456789abcdefABCDEF" else 0 for digit in (match[2], match[3])
    )
    return bytes((high << 4 | low,))
