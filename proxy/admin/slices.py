"""Splits long work into short slices, because with one worker the admin listener shares the data path's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Final, TypeVar

_Row = TypeVar("_Row")

_SLICE_ROWS: Final = 500  # under 1 ms of formatting


async def in_slices(rows: Iterable[_Row], size: int = _SLICE_ROWS) -> AsyncIterator[list[_Row]]:
    """Take rows from an iterable some at a time, and let the event loop run after each slice.

    Args:
        rows: a lazy one is computed in slices too.
    """
    remaining = iter(rows)
    while taken := list(islice(remaining, size)):
        yield taken
        await asyncio.sleep(0)
