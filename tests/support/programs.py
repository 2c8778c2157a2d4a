"""Real servers from the system's packages, run as they come."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

_STARTED_S = 30.0  # Varnish compiles its configuration first


def program(name: str) -> str:
    """Find a program; skip the test where it is not installed, but fail in CI, which installs all of them."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        assert not os.environ.get("CI"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def running(port: int, *command: str) -> AsyncIterator[None]:
    """Run a server until the end of the block; it is up when it accepts connections on its port."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_STARTED_S):
            while True:
                assert process.returncode is None, f"{command[0]} ended with {process.returncode}"
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
