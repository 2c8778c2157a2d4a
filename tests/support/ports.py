"""Ports of this machine that nobody listens on."""

from __future__ import annotations

import socket
from contextlib import ExitStack

LOCALHOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, each another one."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((LOCALHOST, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def free_port() -> int:
    """Return one of them."""
    return free_ports(1)[0]


def is_open(port: int) -> bool:
    """Whether somebody listens on it."""
    with socket.socket() as probe:
        return probe.connect_ex((LOCALHOST, port)) == 0
