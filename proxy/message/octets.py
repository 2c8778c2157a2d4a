"""Which bytes may stand somewhere: asked of every line that comes in, so in one pass without a list of them."""

from __future__ import annotations

from typing import Final

CONTROLS: Final = bytes((*range(0x20), 0x7F))


def all_but(excluded: bytes) -> bytes:
    """Make a table for `has_only` of all bytes but these."""
    stand_in = bytes(set(range(256)) - set(excluded))[:1]
    return bytes.maketrans(excluded, stand_in * len(excluded))


def has_only(text: bytes, table: bytes) -> bool:
    """Tell whether every byte of `text` is one of those that `table` was made of."""
    # The table changes any other byte. With bytes to delete, or an expression, it takes two to four times as long.
    return text.translate(table) == text
