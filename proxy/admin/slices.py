"""Long work in short slices: the admin listener shares its event loop with the requests of a one-process service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Final, TypeVar

_Row = TypeVar("_Row")

_SLICE_ROWS: Final = 500  # under 1 ms of formatting


async def in_slices(rows: Iterable[_Row], size: int = _SLICE_ROWS) -> AsyncIterator[list[_Row]]:
    """Take rows from an iterable some at a time, and let whatever else is due run after each slice.

    Args:
        rows: a lazy one is computed in slices too.
    """
    remaining = iter(rows)
    while taken := list(islice(remaining, size)):
        yield taken
        await asyncio.sleep(0)
