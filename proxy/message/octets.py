"""Tests whether text has only allowed bytes. Every line that comes in is tested, so this is one pass in C."""

from __future__ import annotations

from typing import Final

CONTROLS: Final = bytes((*range(0x20), 0x7F))


def all_but(excluded: bytes) -> bytes:
    """Make a table for `has_only` that allows all bytes but these."""
    stand_in = bytes(set(range(256)) - set(excluded))[:1]
    return bytes.maketrans(excluded, stand_in * len(excluded))


def has_only(text: bytes, table: bytes) -> bool:
    """Tell whether the table allows every byte of `text`."""
    # The table changes each byte that it does not allow. A regular expression takes two to four times as long.
    return text.translate(table) == text
