"""What an app may read where a client sends a field or a parameter: apps and servers differ on odd and repeated ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from proxy.message.fields import list_members
from proxy.message.request import FieldLines
from proxy.message.target import readable
from proxy.rules.engine.spellings import spellings


def lines_of(sent: FieldLines) -> tuple[bytes, ...]:
    """Return the lines of a field that rules read, in order."""
    if sent is None:
        return ()
    return (sent,) if isinstance(sent, bytes) else sent


def field_readings(sent: FieldLines) -> list[str | None]:
    """Return the values that an app may find in a field, each once.

    Of several lines most servers join all (with `,` or `, `), some keep the first or the last (cheroot). And wsgiref,
    on which Werkzeug's and Django's servers are built, takes off all that Python counts as white space: 0x85 and 0xA0.
    """
    if sent is None:
        return [None]
    if isinstance(sent, bytes):
        line = sent.decode("latin-1")
        stripped = line.strip()
        return [line] if stripped == line else [line, stripped]
    lines = [line.decode("latin-1") for line in sent]
    readings: list[str | None] = []
    for each in (lines, [line.strip() for line in lines]):
        for reading in (", ".join(each), ",".join(each), each[0], each[-1]):
            if reading not in readings:
                readings.append(reading)
    return readings


def methods_named(sent: FieldLines) -> set[str]:
    """Return the methods that a field may put in the place of the one that was sent."""
    members = [member.decode("latin-1") for line in lines_of(sent) for member in list_members(line)]
    return {member.upper() for member in members} | {member.strip().upper() for member in members}


def moved_paths(name: bytes, sent: FieldLines, paths: Iterable[str]) -> set[str]:
    """Return the paths that a middleware may put in the place of these, by a field that a trusted proxy sends.

    `X-Script-Name` and `X-Forwarded-Prefix` name a beginning of the path that is taken off (the ReverseProxied snippet
    for Flask); the other fields name another path.
    """
    moved: set[str] = set()
    for value in field_readings(sent):
        if value is None:
            continue
        raw = value.encode("latin-1")
        if name in _PREFIXES:
            beginning = raw.decode("utf-8", "replace")
            for each in (beginning, beginning.rstrip("/")):
                moved |= {
                    "/" + path[len(each) :].lstrip("/") for path in paths if each and path.startswith(each)
                }
        else:
            moved.update(spellings(_ORIGIN.sub(b"", raw).partition(b"?")[0] or b"/"))
    return moved


def parameter_readings(target: bytes, names: Container[str]) -> dict[str, list[str | None]] | None:
    """Return the values that an app may find in parameters of the query, each once; `None` stands for no parameter.

    Apps differ on whether `;` separates parameters and `+` is a space, on bytes that are not UTF-8, and on which of
    several values they take. Servers cut the fragment before or after they look for the query, and those on Python's
    `http.server` take white space off the end.

    Args:
        names: of the parameters that matter.

    Returns:
        What there is in some reading of the query; `None` when it is too long to be read: nobody knows then.
    """
    path, _, query = target.partition(b"?")
    if len(query) > _MAX_QUERY_BYTES or query.count(b"&") + query.count(b";") > _MAX_PARAMETERS:
        return None
    queries = {query}
    if b"#" in target:
        queries.add(b"" if b"#" in path else query.partition(b"#")[0])
    queries |= {each.rstrip(b"\x85\xa0") for each in queries}
    queries |= {each.replace(b";", b"&") for each in queries}
    queries |= {each.replace(b"+", b" ") for each in queries}
    parsed = [
        _parameters(each, names, decode)
        for each in queries
        for decode in (_DECODERS if b"%" in query or not query.isascii() else _DECODERS[:1])
    ]
    found = dict.fromkeys([name for parameters in parsed for name in parameters])
    absent: list[str | None] = [None]
    return {
        name: list(dict.fromkeys([value for each in parsed for value in each.get(name, absent)]))
        for name in found
    }


def _parameters(
    query: bytes, names: Container[str], decode: Callable[[bytes], str]
) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {}
    for part in query.split(b"&"):
        key, _, value = part.partition(b"=")
        name = decode(key)
        if part and name in names:
            found.setdefault(name, []).append(decode(value))
    return found


def _decode_as_django(raw: bytes) -> str:
    """Decode as Django does and Werkzeug did up to 2.2: what is not UTF-8 becomes U+FFFD."""
    return unquote_to_bytes(raw).decode("utf-8", "replace")


def _decode_as_werkzeug(raw: bytes) -> str:
    """Decode as Werkzeug does from 2.3 on: bytes that are not UTF-8 stay percent-encoded."""
    return readable(unquote_to_bytes(raw))


def _decode_raw_as_latin_1(raw: bytes) -> str:
    """Decode as Django does where raw bytes are not UTF-8: these are latin-1, escapes still UTF-8."""
    return unquote(raw.decode("latin-1"), errors="replace")


def _decode_as_latin_1(raw: bytes) -> str:
    """Decode as an app does that was set to latin-1."""
    return unquote_to_bytes(raw).decode("latin-1")


_PREFIXES: Final = (b"x-script-name", b"x-forwarded-prefix")
_ORIGIN: Final = re.compile(rb"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*")
_DECODERS: Final = (_decode_as_django, _decode_as_werkzeug, _decode_raw_as_latin_1, _decode_as_latin_1)
_MAX_QUERY_BYTES: Final = 8192
_MAX_PARAMETERS: Final = 256
