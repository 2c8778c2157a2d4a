"""One walk over a head's fields: the lines to write, and where the few fields stand that somebody reads.

A browser's request has some 14 fields of which the gateway reads four. A table remembers for every raw
name whether it is one of those, so that an ordinary field costs one look-up and one concatenation; with
lower-casing and membership tests per field a request cost 15 us more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from proxy.message.fields import HOP_BY_HOP, NEVER_HOP_BY_HOP, Field, connection_options

Noted = dict[bytes, list[tuple[int, bytes]]]
"""Lower-case field name -> (place in the lines, field value) of each of its lines, in order."""

_UNREAD: Final = b""
_TABLE_SIZE: Final = 2048  # spellings are the peer's choice, so what is remembered of them is bounded


class LineTable:
    """Which field names are noted in a walk, and under which lower-case name.

    Args:
        names: lower-case names to note.
        suffixes: note also every name that ends with one of these.
        aliases: note names with `_` under `underscored`, RFC 3875 folds them into others.
    """

    __slots__ = ("_aliases", "_known", "_names", "_suffixes")

    underscored: Final = b"_"

    def __init__(self, names: Iterable[bytes], suffixes: Iterable[bytes] = (), *, aliases: bool = False) -> None:
        self._names = frozenset(names) | HOP_BY_HOP
        self._suffixes = tuple(suffixes)
        self._aliases = aliases
        self._known: dict[bytes, bytes] = {}

    def walk(self, fields: Sequence[Field]) -> tuple[list[bytes], Noted]:
        """Make a line of each field, in order, and note those that the table names.

        A line that is to be left out is set to `b""`: `render_lines` passes over it.
        """
        known = self._known
        lines: list[bytes] = []
        noted: Noted = {}
        for name, value in fields:
            read = known.get(name)
            if read is None:
                read = self._classify(name)
            if read:
                noted.setdefault(read, []).append((len(lines), value))
            lines.append(name + b": " + value)
        return lines, noted

    def _classify(self, name: bytes) -> bytes:
        lower = name.lower()
        read = lower if lower in self._names or lower.endswith(self._suffixes) else _UNREAD
        if self._aliases and b"_" in lower and not read:
            read = self.underscored
        if len(self._known) < _TABLE_SIZE:
            self._known[name] = read
        return read


def render_lines(start: bytes, lines: Iterable[bytes]) -> bytes:
    """Render a head: its start line, the lines that are not empty, and the empty line."""
    return start + b"\r\n".join(filter(None, lines)) + b"\r\n\r\n"


def drop(lines: list[bytes], noted: Noted, name: bytes) -> int:
    """Leave out every line of a noted field; return how many there were."""
    places = noted.get(name)
    if not places:
        return 0
    for place, _ in places:
        lines[place] = b""
    return len(places)


def drop_hop_by_hop(lines: list[bytes], noted: Noted) -> frozenset[bytes]:
    """Leave out hop-by-hop fields, those that `Connection` names among them, RFC 9110 section 7.6.1.

    Returns:
        The connection options, lower case. What frames or routes the message stays, whatever they say.
    """
    connection = noted.get(b"connection")
    options = connection_options(value for _, value in connection) if connection else frozenset()
    for name in HOP_BY_HOP & noted.keys():
        drop(lines, noted, name)
    named = options - _COMMON_OPTIONS - NEVER_HOP_BY_HOP
    if named:
        for place, line in enumerate(lines):
            if line.partition(b":")[0].lower() in named:
                lines[place] = b""
    return options


def values_of(noted: Mapping[bytes, Sequence[tuple[int, bytes]]], name: bytes) -> list[bytes]:
    """Return the values of a noted field, in order."""
    return [value for _, value in noted.get(name, ())]


def value_of(noted: Mapping[bytes, Sequence[tuple[int, bytes]]], name: bytes) -> bytes | None:
    """Return the lines of a noted field as one value (RFC 9110 section 5.3), `None` when it is absent."""
    places = noted.get(name)
    if places is None:
        return None
    return places[0][1] if len(places) == 1 else b", ".join(value for _, value in places)


_COMMON_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade"))
