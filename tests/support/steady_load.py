"""Clients that ask without a pause while something happens, and count what they lose by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.peer import connect

CONTENT = {"GET": b"\r\n", "POST": b"Content-Length: 2\r\n\r\nok"}
"""What may be asked twice, and what may not."""


@dataclass
class Asked:
    """What became of all requests.

    Attributes:
        answered: how many were, with whatever status.
        lost: those that did not get the app's 200, by what came instead.
    """

    answered: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    is_over: bool = False


@asynccontextmanager
async def asking(
    address: tuple[str, int], target: str, methods: Sequence[str] = tuple(CONTENT), clients: int = 4
) -> AsyncIterator[Asked]:
    """Have so many clients of each method ask until the block ends, each on a connection that it keeps."""
    asked = Asked()
    async with asyncio.TaskGroup() as group:
        for method in methods:
            for _ in range(clients):
                group.create_task(
                    _ask(address, f"{method} {target} HTTP/1.1\r\nHost: a\r\n".encode(), method, asked)
                )
        yield asked
        asked.is_over = True


async def _ask(address: tuple[str, int], head: bytes, method: str, asked: Asked) -> None:
    peer = await connect(address)
    while not asked.is_over:
        await peer.send(head + CONTENT[method])
        answer = await peer.read_response()
        asked.answered += 1
        if answer.status != 200:
            asked.lost[f"{method} {answer.status} {answer.content.decode()}"] += 1
        if answer.field("Connection") == [b"close"]:
            peer.close()
            peer = await connect(address)
    peer.close()
