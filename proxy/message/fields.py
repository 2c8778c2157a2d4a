"""Field names and list-based field values, RFC 9110 section 5. Every other module of this package builds on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final

Field = tuple[bytes, bytes]
Fields = Sequence[Field]
"""Field lines in wire order, duplicates and spelling kept, values without surrounding white space."""

Names = tuple[bytes, ...]
"""Field names in wire order, as spelt. What depends on names alone is computed once for each such sequence."""

_NAME: Final = itemgetter(0)
_LINE: Final = b": ".join


class FieldSection:
    """The fields of a head, RFC 9110 section 6.3, in three forms. Several heads may share one: nobody changes it.

    Attributes:
        fields: names and values, in wire order.
        lines: one line for each field, as it will be written: nearly always the bytes that came.
        names: the names alone.
    """

    __slots__ = ("fields", "lines", "names")

    def __init__(self, fields: Fields, lines: list[bytes] | None = None, names: Names | None = None) -> None:
        self.fields = fields
        self.lines = list(map(_LINE, fields)) if lines is None else lines
        self.names = names_of(fields) if names is None else names


def values_of(fields: Iterable[Field], name: bytes) -> list[bytes]:
    """Return the values of every line of a field, in order; `name` in lower case."""
    return [value for spelt, value in fields if spelt.lower() == name]


def names_of(fields: Fields) -> Names:
    """Return the names of fields, in order and as spelt."""
    return tuple(map(_NAME, fields))


HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
"""RFC 9110 section 7.6.1, and `Trailer`: trailers are not forwarded (section 6.5.1 allows that)."""

NEVER_HOP_BY_HOP = frozenset((b"content-length", b"host", b"date", b"via"))
"""Fields that a `Connection` option cannot take away: they frame, route or date the message."""

REMEMBERED: Final = 32
"""Entries per small cache in this package. A head is bounded, so each cache takes at most 2 MiB."""

_MAX_REMEMBERED_OPTIONS: Final = 512  # bytes; a list of 64 KiB takes 1 MiB as a set

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PRINTABLE_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z/, \t]+")


def is_token(value: bytes) -> bool:
    """Tell whether `value` is a token, RFC 9110 section 5.6.2."""
    return _TOKEN.fullmatch(value) is not None


def list_members(value: bytes) -> list[bytes]:
    """Split a list-based value without quoted strings into its non-empty members, trimmed, in order."""
    return [trimmed for member in value.split(b",") if (trimmed := member.strip(b" \t"))]


def connection_options(*values: bytes) -> frozenset[bytes]:
    """Collect the options of all `Connection` lines, lower case, RFC 9110 section 7.6.1."""
    if len(values) == 1 and len(values[0]) <= _MAX_REMEMBERED_OPTIONS:
        return _short_options(values[0])
    return _options(*values)


def _options(*values: bytes) -> frozenset[bytes]:
    return frozenset(option.lower() for value in values for option in list_members(value))


_short_options: Final = lru_cache(REMEMBERED)(_options)


def is_upgrade_token_list(value: bytes) -> bool:
    """Tell whether an `Upgrade` value is a plain list of protocols (`websocket`, `foo/2`), section 7.8."""
    return _PRINTABLE_TOKENS.fullmatch(value) is not None


@lru_cache(REMEMBERED)
def merge_vary(values: tuple[bytes, ...], names: tuple[bytes, ...]) -> bytes:
    """Merge field names into what the upstream's `Vary` lines say, RFC 9110 section 12.5.5.

    Args:
        values: the upstream's `Vary` lines, in order; none when it sent none.
        names: field names to add, as they are to be spelt.

    Returns:
        One value: the upstream's members in order without duplicates, then the new ones. A `*` among
        them stands alone: some caches recognise it only as the whole value (nginx, Varnish). It is
        never generated.
    """
    merged: dict[bytes, bytes] = {}
    for value in (*values, *names):
        for member in list_members(value):
            merged.setdefault(member.lower(), member)
    if b"*" in merged:
        return b"*"
    return b", ".join(merged.values())
