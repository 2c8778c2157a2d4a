"""Which client connections of a worker are open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from proxy.gateway.failures import Failure


class Client(Protocol):
    """What a worker asks of a client's connection.

    Attributes:
        deadline_s: when `timed_out` is due, by the worker's clock.
    """

    deadline_s: float

    def timed_out(self) -> None:
        """The deadline has passed."""

    def drain(self) -> None:
        """Close now unless a request is being read or answered."""

    def drain_tunnel(self) -> None:
        """Close now if it is a tunnel at rest."""

    def give_up(self, failure: Failure) -> bool | None:
        """End it at once, whatever it does; return whether an exchange or tunnel was under way, `None` if that failed."""


class Clients:
    """The open client connections of a worker.

    Attributes:
        all_left: set while there is none.
    """

    __slots__ = ("_open", "all_left")

    def __init__(self) -> None:
        self._open: set[Client] = set()
        self.all_left = asyncio.Event()
        self.all_left.set()

    def add(self, client: Client) -> None:
        """Count one in."""
        self._open.add(client)
        self.all_left.clear()

    def discard(self, client: Client) -> None:
        """Count one out."""
        self._open.discard(client)
        if not self._open:
            self.all_left.set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._open))
