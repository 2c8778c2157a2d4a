"""One walk over a head's fields: the lines to write, and where the few fields stand that somebody reads.

A browser's request has some 14 fields of which the gateway reads four. A table remembers for every raw
name whether it is one of those, so that an ordinary field costs one look-up and one concatenation; with
lower-casing and membership tests per field a request cost 15 us more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from proxy.message.fields import HOP_BY_HOP, NEVER_HOP_BY_HOP, Field, connection_options, is_token
from proxy.message.syntax import MalformedHeadError

Noted = dict[bytes, list[tuple[int, bytes]]]
"""Lower-case field name -> (place in the lines, field value) of each of its lines, in order."""

UNDERSCORED: Final = b"_"
"""Under this name fields with `_` in theirs are noted, when a table is told to."""

_UNREAD: Final = b""
_LEFT_OUT: Final = b"-"
_TABLE_SIZE: Final = 2048  # spellings are the peer's choice, so what is remembered of them is bounded
_COMMON_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade"))


class LineTable:
    """Which field names are noted in a walk, and which are left out.

    Args:
        names: lower-case names to note; hop-by-hop fields are noted in any case.
        left_out: lower-case names that get no line, unless they are noted.
        left_out_suffixes: likewise every name that ends with one of these.
        notes_underscored: note names with `_` together, under `UNDERSCORED`.
    """

    __slots__ = ("_known", "_left_out", "_left_out_suffixes", "_names", "_notes_underscored")

    def __init__(
        self,
        names: Iterable[bytes],
        left_out: Iterable[bytes] = (),
        left_out_suffixes: Iterable[bytes] = (),
        *,
        notes_underscored: bool = False,
    ) -> None:
        self._names = frozenset(names) | HOP_BY_HOP
        self._left_out = frozenset(left_out)
        self._left_out_suffixes = tuple(left_out_suffixes)
        self._notes_underscored = notes_underscored
        self._known: dict[bytes, bytes] = {}

    def walk(self, fields: Sequence[Field]) -> tuple[list[bytes], Noted, int]:
        """Make a line of each field, in order, and note those that the table names.

        A line that is to be left out later is set to `b""`: `render_lines` passes over it.

        Returns:
            The lines, the noted fields, and how many fields were left out.

        Raises:
            MalformedHeadError: a field name is not a token.
        """
        known = self._known
        lines: list[bytes] = []
        noted: Noted = {}
        left_out = 0
        for name, value in fields:
            read = known.get(name)
            if read is None:
                read = self._classify(name)
            if read:
                if read is _LEFT_OUT:
                    left_out += 1
                    continue
                if read in noted:
                    noted[read].append((len(lines), value))
                else:
                    noted[read] = [(len(lines), value)]
            lines.append(name + b": " + value)
        return lines, noted, left_out

    def _classify(self, name: bytes) -> bytes:
        if not is_token(name):
            raise MalformedHeadError("a field name that is not a token")
        lower = name.lower()
        if lower in self._names:
            read = lower
        elif lower in self._left_out or (self._left_out_suffixes and lower.endswith(self._left_out_suffixes)):
            read = _LEFT_OUT
        else:
            read = UNDERSCORED if self._notes_underscored and b"_" in lower else _UNREAD
        if len(self._known) < _TABLE_SIZE:
            self._known[name] = read
        return read


def render_lines(start: bytes, lines: Iterable[bytes]) -> bytes:
    """Render a head: its start line, the lines that are not empty, and the empty line."""
    section = b"\r\n".join(filter(None, lines))
    return start + section + b"\r\n\r\n" if section else start + b"\r\n"


def drop(lines: list[bytes], noted: Noted, name: bytes) -> int:
    """Leave out every line of a noted field; return how many there were."""
    places = noted.get(name)
    if places is None:
        return 0
    for place, _ in places:
        lines[place] = b""
    return len(places)


def drop_hop_by_hop(lines: list[bytes], noted: Noted) -> frozenset[bytes]:
    """Leave out hop-by-hop fields, those that `Connection` names among them, RFC 9110 section 7.6.1.

    Returns:
        The connection options, lower case. What frames or routes the message stays, whatever they say.
    """
    for name in noted:
        if name in HOP_BY_HOP:
            drop(lines, noted, name)
    connection = noted.get(b"connection")
    if connection is None:
        return _NO_OPTIONS
    options = connection_options(*[value for _, value in connection])
    if not options <= _COMMON_OPTIONS:
        named = options - NEVER_HOP_BY_HOP
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
    return places[0][1] if len(places) == 1 else b", ".join([value for _, value in places])


_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
