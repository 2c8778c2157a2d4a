"""Every spelling under which some WSGI server and Flask would reach a view, from the path as sent.

gunicorn, waitress and Werkzeug decode the path once; httpd and nginx remove dot segments after that, uWSGI before it and
with a decoder of its own; cheroot leaves `%2F` as it is; waitress up to 1.3.0 takes `//host/path` for an address; servers
on Python's `http.server` take off white space at the end, 0x85 and 0xA0 among it; most cut a fragment. Werkzeug's routing
drops leading slashes and merges inner ones; some servers cut `;params`; routes whose expressions end with `$` (Werkzeug's
up to 2.0, Django's by expression) take a line feed after the end, too. A rule that is tried on all of these cannot be
walked around.

Each step is one call into C, so that the longest path costs less than a millisecond.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Callable
from typing import Final

_PARAMS: Final = re.compile(rb";[^/]*")
_DOTS: Final = re.compile(rb"/(\.{1,2})(?=/|\Z)")
_AUTHORITY: Final = re.compile(rb"//[^/]*")
_ESCAPED_SLASH: Final = re.compile(rb"%2[fF]")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_WHITE_SPACE: Final = b"\x85\xa0"
_ESCAPE_DIGITS: Final = 2

# What each of these in a path costs is bounded by its length, or else by their number: nobody has so many.
_MAX_BYTES_FOR_MANY: Final = 512
_MAX_ODDITIES: Final = 32
_MAX_BYTES_IN_ALL: Final = 128 << 10


def spellings(path: bytes) -> list[str]:
    """Return the decoded paths that a request target's path may mean to the app.

    Args:
        path: the request target up to `?`, as sent.

    Returns:
        Each once, and only one for an ASCII path without escapes, double slashes, dot segments, `;` and `#`. Bytes
        that are not UTF-8 become U+FFFD, as in Werkzeug. A slash at the end is left as it is. None at all for a
        long path with so many oddities that finding all of its spellings would take too long: it may be any path.
    """
    if path.isascii():
        text = path.decode("ascii")
        # Of text, not of bytes: there `in` raises and catches an error for each of these.
        if not ("%" in text or ";" in text or "//" in text or "/." in text or "#" in text):
            return [text]
    return _odd_spellings(path)


def with_other_end(path: str) -> str:
    """Return the path without the slash at its end, or with one: many apps answer to either."""
    return path[:-1] if path.endswith("/") else path + "/"


def _odd_spellings(path: bytes) -> list[str]:
    bad_escapes = len(_BAD_ESCAPE.findall(path)) if b"%" in path else 0
    if len(path) > _MAX_BYTES_FOR_MANY and (
        bad_escapes > _MAX_ODDITIES
        or (decoded := _decode(path)).count(b";") + decoded.count(b"/.") > _MAX_ODDITIES
    ):
        return []
    readings: set[bytes] = set()
    for raw in _as_cut(path):
        for each in {raw, _remove_dot_segments(raw)}:
            readings |= _decodings(each)
        if bad_escapes or b"/." in raw:
            readings.add(_decode_as_uwsgi(raw))
    for change in _CHANGES:
        readings |= {change(reading) for reading in readings}
        if len(readings) * len(path) > _MAX_BYTES_IN_ALL:
            return []
    return list({reading.decode("utf-8", "replace") for reading in readings})


def _as_cut(path: bytes) -> set[bytes]:
    """Return what servers take for the path before they decode it."""
    cut = {path}
    if b"#" in path:
        cut.add(path.partition(b"#")[0])
    cut |= {each.rstrip(_WHITE_SPACE) for each in cut}
    cut |= {_AUTHORITY.sub(b"", each, count=1) or b"/" for each in cut if each.startswith(b"//")}
    return cut | {_cut_params(each) for each in cut}


def _decodings(path: bytes) -> set[bytes]:
    decoded = {_decode(path)}
    if not path.isascii():  # Werkzeug's own server: raw bytes are latin-1, escapes UTF-8
        decoded.add(_decode(path.decode("latin-1").encode()))
    if _ESCAPED_SLASH.search(path):  # cheroot
        decoded.add(_decode(_ESCAPED_SLASH.sub(b"%252F", path)))
    return decoded


def _decode(path: bytes) -> bytes:
    """Decode escapes as `urllib.parse.unquote_to_bytes` does, at the speed of C: quoted-printable has the same form."""
    if b"%" not in path:
        return path
    whole = _BAD_ESCAPE.sub(b"%25", path).replace(b"=", b"%3D")
    return a2b_qp(whole.replace(b"%", b"="))


def _cut_params(path: bytes) -> bytes:
    return _PARAMS.sub(b"", path) if b";" in path else path


def _cut_line_feed(path: bytes) -> bytes:
    return path.removesuffix(b"\n")


def _drop_leading_slashes(path: bytes) -> bytes:
    return b"/" + path.lstrip(b"/")


def _merge_slashes(path: bytes) -> bytes:
    for run in (b"/" * 64, b"//"):
        while run in path:
            path = path.replace(run, b"/")
    return path


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4; an empty segment counts as one, as in uWSGI."""
    if b"/." not in path:
        return path
    kept, *pieces = _DOTS.split(path)
    for dots, following in zip(pieces[::2], pieces[1::2], strict=True):
        if dots == b"..":
            kept = kept[: max(kept.rfind(b"/"), 0)]
        kept += following
    return kept + b"/" if path.endswith((b"/.", b"/..")) else kept


def _decode_as_uwsgi(path: bytes) -> bytes:
    """Decode as uWSGI's `http_url_decode` does, in one pass with the removal of dot segments.

    An escape takes the two bytes after `%` whatever they are, a slash among them too; `%%` is `%`, two
    bytes that are no number are NUL, and an escape that is cut short is nothing. Only dots and slashes
    as sent make a dot segment, but what `..` takes away reaches back to any slash, an escaped one too.
    """
    kept, *pieces = _DOTS.split(_escape_as_uwsgi(path))
    kept = _decode(kept)
    for dots, following in zip(pieces[::2], pieces[1::2], strict=True):
        if dots == b"..":
            kept = kept[: max(kept.rfind(b"/"), 0)]
        kept += _decode(following)
    return kept + b"/" if pieces and not pieces[-1] else kept


def _escape_as_uwsgi(path: bytes) -> bytes:
    """Write each escape that is none as one that stands for what uWSGI makes of it."""
    done: list[bytes] = []
    position = 0
    while found := _BAD_ESCAPE.search(path, position):
        start = found.start()
        done.append(path[position:start])
        taken = path[start + 1 : start + 1 + _ESCAPE_DIGITS]
        if taken.startswith(b"%"):
            done.append(b"%25")
            position = start + 2
        elif len(taken) < _ESCAPE_DIGITS:
            cut = b"".join(done)
            return cut[:-1] + b"%2e" if cut.endswith(b".") else cut  # dots with an escape make no dot segment
        else:
            done.append(b"%00")
            position = start + 1 + _ESCAPE_DIGITS
    return b"".join([*done, path[position:]])


_CHANGES: Final[tuple[Callable[[bytes], bytes], ...]] = (
    _cut_params,
    _cut_line_feed,
    _remove_dot_segments,
    _drop_leading_slashes,
    _merge_slashes,
    _remove_dot_segments,
    _drop_leading_slashes,
)
"""What servers and routing do to a path that was decoded, each of them or not."""
