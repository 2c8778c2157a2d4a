"""No request is lost when the app's container gets another address, or when one of two addresses dies.

The process gets a hosts file of its own, in a mount namespace: its resolver is the system's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.serving import sidecar
from tests.support.steady_load import asking

GRACE_S = 0.1
NAME = "app.test"
ADDRESSES = "127.0.0.2", "127.0.0.3"
RULES = 'version: 1\nrules:\n  - {name: all, match: {paths: ["/**"]}, policy: strict}\n'
NAMESPACE = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']


def may_mount() -> bool:
    tried = shutil.which("unshare") and subprocess.run(
        ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
        capture_output=True,
        check=False,
    )
    return bool(tried) and tried.returncode == 0  # type: ignore[union-attr] - mypy does not check tests


pytestmark = pytest.mark.skipif(
    not may_mount(), reason="needs the right to give a process a hosts file of its own"
)


class App:
    """One of the app's addresses."""

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self.port = port
        self._is_ending = False
        self._writers: dict[asyncio.StreamWriter, bool] = {}  # and whether a request is being answered
        self.answered = 0

    async def start(self) -> None:
        self._is_ending = False
        self._server = await asyncio.start_server(self._serve, self._address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """End gracefully: answer what is there or on its way with a `Connection: close`, and then close.

        An app that closes at once may have a request on its way: nobody can ask a POST again then (RFC 9112, 9.3.1).
        """
        self._is_ending = True
        self._server.close()
        await asyncio.sleep(GRACE_S)
        async with asyncio.timeout(10):
            while any(self._writers.values()):
                await asyncio.sleep(0.005)
        self.die()

    def die(self) -> None:
        """Be gone."""
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = False
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            last = b""
            while not last:
                head = await reader.readuntil(b"\r\n\r\n")
                self._writers[writer] = True
                await reader.readexactly(2 if head.startswith(b"POST") else 0)
                await asyncio.sleep(0.001)
                last = b"Connection: close\r\n" if self._is_ending else b""
                writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok" % last)
                await writer.drain()
                self.answered += 1
                self._writers[writer] = False
        del self._writers[writer]
        writer.close()


@asynccontextmanager
async def two_apps() -> AsyncIterator[tuple[App, App]]:
    first = App(ADDRESSES[0], 0)
    await first.start()
    second = App(ADDRESSES[1], first.port)
    yield first, second
    for app in (first, second):
        if hasattr(app, "_server"):
            app.die()


@pytest.mark.parametrize("times", [3, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(180)])])
async def test_app_that_gets_another_address_loses_no_request(tmp_path, times):
    """A container that is replaced: the new one listens, the name moves, the old one ends."""
    rules, hosts = tmp_path / "rules.yaml", tmp_path / "hosts"
    rules.write_text(RULES)
    hosts.write_text(f"{ADDRESSES[0]} {NAME}\n")
    async with two_apps() as apps:
        upstream = f"http://{NAME}:{apps[0].port}"
        async with sidecar(upstream, rules, under=[*NAMESPACE, str(hosts)]) as running:
            assert isinstance(running.listen, tuple)
            async with asking(running.listen, "/") as asked:
                for number in range(times):
                    old, new = apps[number % 2], apps[1 - number % 2]
                    await asyncio.sleep(0.2)
                    await new.start()
                    move(hosts, ADDRESSES[1 - number % 2])
                    await old.end()
                    answered = new.answered
                    async with asyncio.timeout(10):
                        while new.answered < answered + 20:
                            await asyncio.sleep(0.005)
    print(f"\n{times} moves: {asked}")
    assert not asked.lost


def move(hosts: Path, address: str) -> None:
    """Change the address in place, by one write: who reads the file meanwhile finds the one or the other."""
    descriptor = os.open(hosts, os.O_WRONLY)
    os.pwrite(descriptor, address.encode(), 0)
    os.close(descriptor)


@pytest.mark.parametrize("dies", [0, 1])
async def test_one_of_two_addresses_that_dies_loses_no_request_that_may_be_asked_twice(tmp_path, dies):
    """What was under way there is asked again elsewhere; what is new does not go there."""
    rules, hosts = tmp_path / "rules.yaml", tmp_path / "hosts"
    rules.write_text(RULES)
    hosts.write_text("".join(f"{address} {NAME}\n" for address in (ADDRESSES[dies], ADDRESSES[1 - dies])))
    async with two_apps() as apps:
        await apps[1].start()
        async with sidecar(f"http://{NAME}:{apps[0].port}", rules, under=[*NAMESPACE, str(hosts)]) as running:
            assert isinstance(running.listen, tuple)
            async with asking(running.listen, "/", ["GET"]) as asked:
                await asyncio.sleep(0.3)
                answered = apps[0].answered, apps[1].answered
                assert any(answered)
                apps[dies].die()
                await asyncio.sleep(0.3)
                survivor = apps[1 - dies]
                before = survivor.answered
                async with asyncio.timeout(10):
                    while survivor.answered < before + 50:
                        await asyncio.sleep(0.005)
    print(f"\n{answered} answered by each before one died: {asked}")
    assert not asked.lost
