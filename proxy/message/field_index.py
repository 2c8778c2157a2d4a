"""Finds the few fields of a head that somebody reads, and the lines to write, in one walk.

A browser sends some 14 fields, always the same names in the same order, and the gateway reads four of them. What depends
on names alone is computed once for each sequence of names; after that a field that nobody reads costs nothing. Without
this cache a request costs a fifth more bytecodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from proxy.message.fields import (
    HOP_BY_HOP,
    NEVER_HOP_BY_HOP,
    FieldSection,
    Names,
    connection_options,
)

Noted = dict[bytes, list[tuple[int, bytes]]]
"""Lower-case field name -> (place in the lines, field value) of each of its lines, in order."""

UNDERSCORED: Final = b"_"
"""The key under which a table with `notes_underscored` notes the fields that have `_` in their names."""

# Peers choose names, so the cache of them is bounded: half a MiB for a table.
_MAX_SHAPES: Final = 256
_MAX_SHAPE_BYTES: Final = 2048
COMMON_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade"))
"""Connection options that name no field which `drop_named_in_connection` would leave out."""


class LineTable:
    """Says which fields are noted in a walk, and which get no line.

    Args:
        names: lower-case names to note; hop-by-hop fields are noted in any case.
        left_out: lower-case names that get no line.
        left_out_suffixes: likewise every name that ends with one of these, unless it is noted.
        left_out_prefixes: likewise every name that begins with one of these, unless it is noted.
        reads: names whose presence `Shape.reads` tells; they are noted, too.
        notes_underscored: note names with `_` together, under `UNDERSCORED`.
    """

    __slots__ = (
        "_left_out",
        "_left_out_prefixes",
        "_left_out_suffixes",
        "_names",
        "_notes_underscored",
        "_reads",
        "_shapes",
    )

    def __init__(
        self,
        names: Iterable[bytes],
        left_out: Iterable[bytes] = (),
        left_out_suffixes: Iterable[bytes] = (),
        left_out_prefixes: Iterable[bytes] = (),
        reads: Iterable[bytes] = (),
        *,
        notes_underscored: bool = False,
    ) -> None:
        self._names = frozenset(names) | HOP_BY_HOP
        self._left_out = frozenset(left_out) - HOP_BY_HOP
        self._left_out_suffixes = tuple(left_out_suffixes)
        self._left_out_prefixes = tuple(left_out_prefixes)
        self._notes_underscored = notes_underscored
        self._reads = tuple(reads)
        self._shapes: dict[Names, Shape] = {}

    def walk(self, section: FieldSection) -> tuple[list[bytes], Noted, int]:
        """Return a line for each field, in order, and where the noted fields stand.

        The line of a field that is left out is `b""`, and so is that of a hop-by-hop field (RFC 9110 section 7.6.1):
        `render_lines` skips it.

        Returns:
            The lines, the noted fields, and how many fields were left out, hop-by-hop fields not counted.
        """
        shape = self.shape(section)
        return shape.lines(section), shape.note(section), shape.left_out

    def note(self, section: FieldSection) -> Noted:
        """Note the fields that the table names, without their lines.

        Raises:
            MalformedHeadError: a field name is not a token.
        """
        return self.shape(section).note(section)

    def shape(self, section: FieldSection) -> Shape:
        """Return what the names of a section say by themselves."""
        shape = self._shapes.get(section.names)
        return self._new_shape(section.names) if shape is None else shape

    def _new_shape(self, names: Names) -> Shape:
        noted: dict[bytes, list[int]] = {}
        hop_by_hop: list[int] = []
        left_out: list[int] = []
        for place, name in enumerate(names):
            lower = name.lower()
            is_noted = lower in self._names
            if is_noted:
                noted.setdefault(lower, []).append(place)
            elif self._notes_underscored and b"_" in lower:
                noted.setdefault(UNDERSCORED, []).append(place)
            if lower in HOP_BY_HOP:
                hop_by_hop.append(place)
            elif lower in self._left_out or (not is_noted and self._has_left_out_end(lower)):
                left_out.append(place)
        shape = Shape(
            noted, (*hop_by_hop, *left_out), len(left_out), [name for name in self._reads if name in noted]
        )
        if sum(map(len, names)) <= _MAX_SHAPE_BYTES:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            self._shapes[names] = shape
        return shape

    def _has_left_out_end(self, name: bytes) -> bool:
        return name.endswith(self._left_out_suffixes) or name.startswith(self._left_out_prefixes)


class Shape:
    """What a sequence of field names says by itself.

    Attributes:
        left_out: how many fields the table leaves out.
        reads: which of the names that the table reads are there.
    """

    __slots__ = ("_blank", "_repeated", "_singles", "left_out", "reads")

    def __init__(
        self,
        noted: Mapping[bytes, Sequence[int]],
        blank: Sequence[int],
        left_out: int,
        reads: Sequence[bytes],
    ) -> None:
        self._singles = [(name, places[0]) for name, places in noted.items() if len(places) == 1]
        self._repeated = [(name, places) for name, places in noted.items() if len(places) > 1]
        self._blank = blank
        self.left_out = left_out
        self.reads = reads

    def lines(self, section: FieldSection) -> list[bytes]:
        """Return a line for each field of a section of this shape; see `LineTable.walk`."""
        lines = section.lines.copy()
        for place in self._blank:
            lines[place] = b""
        return lines

    def note(self, section: FieldSection) -> Noted:
        """Note the fields of a section of this shape."""
        fields = section.fields
        noted: Noted = {}
        for name, place in self._singles:
            noted[name] = [(place, fields[place][1])]
        for name, places in self._repeated:
            noted[name] = [(place, fields[place][1]) for place in places]
        return noted


def render_lines(start: bytes, lines: Iterable[bytes]) -> bytes:
    """Render a head: its start line, the lines that are not empty, and the empty line."""
    written = [start, *lines, b"", b""]
    for _ in range(written.count(b"") - 2):  # few are empty: to filter all costs twice as much
        written.remove(b"")
    return b"\r\n".join(written)


def drop(lines: list[bytes], noted: Noted, name: bytes) -> int:
    """Leave out every line of a noted field; return how many there were."""
    places = noted.get(name)
    if places is None:
        return 0
    for place, _ in places:
        lines[place] = b""
    return len(places)


def drop_named_in_connection(
    lines: list[bytes], noted: Noted, stays: frozenset[bytes] = NEVER_HOP_BY_HOP
) -> frozenset[bytes]:
    """Leave out the fields that `Connection` names, RFC 9110 section 7.6.1.

    Args:
        stays: lower-case names of fields that it cannot take away.

    Returns:
        The connection options, lower case.
    """
    connection = noted.get(b"connection")
    if connection is None:
        return _NO_OPTIONS
    if len(connection) == 1:
        options = connection_options(connection[0][1])
    else:
        options = connection_options(*[value for _, value in connection])
    if not options <= COMMON_OPTIONS:
        named = options - stays
        for place, line in enumerate(lines):
            if line.partition(b":")[0].lower() in named:
                lines[place] = b""
    return options


def value_of(noted: Mapping[bytes, Sequence[tuple[int, bytes]]], name: bytes) -> bytes | None:
    """Return the lines of a noted field as one value (RFC 9110 section 5.3), `None` when it is absent."""
    places = noted.get(name)
    if places is None:
        return None
    return places[0][1] if len(places) == 1 else b", ".join([value for _, value in places])


_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
