"""The contract of `healthcheck`'s probe: true for a 200 alone, and one line that says why not."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.service.healthcheck import probe
from proxy.settings import Address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nalive\n"
NOT_READY = b'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n{\n  "reasons": ["x"]\n}\n'


@asynccontextmanager
async def answering(data: bytes, path: Path | None = None):
    """Run a server that sends these bytes to whatever it is asked, or nothing at all when there are none."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        if not data:
            await reader.read()  # until the other side gives up
        writer.close()
        await writer.wait_closed()

    if path is not None:
        server = await asyncio.start_unix_server(answer, path)
        address = Address(path=path)
    else:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    async with server:
        yield address


async def ask(address: Address, timeout_s: float = 10) -> tuple[bool, str]:
    return await asyncio.to_thread(probe, address, "/readyz", timeout_s)


async def test_a_200_is_well():
    async with answering(OK) as address:
        assert await ask(address) == (True, "/readyz: 200 alive")


async def test_a_503_is_not_well_and_its_body_is_on_one_line():
    async with answering(NOT_READY) as address:
        assert await ask(address) == (False, '/readyz: 503 { "reasons": ["x"] }')


async def test_unix_socket_can_be_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with answering(OK, Path("s")) as address:
        assert (await ask(address))[0]


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
async def test_all_interfaces_mean_this_host(host):
    async with answering(OK) as address:
        assert (await ask(Address(host, address.port)))[0]


async def test_nobody_there_is_not_well():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        is_well, text = await ask(Address("127.0.0.1", port))
    assert not is_well
    assert text.startswith(f"/readyz on 127.0.0.1:{port}: ")
    assert text.endswith(": Connection refused")


@pytest.mark.parametrize("data", [b"not HTTP\r\n\r\n", b"HTTP/1.1 2xx\r\n\r\n"])
async def test_anything_but_http_is_not_well(data):
    async with answering(data) as address:
        is_well, text = await ask(address)
    assert not is_well
    assert "\n" not in text


async def test_silence_is_not_well_after_the_timeout():
    async with answering(b"") as address:
        is_well, text = await ask(address, timeout_s=0.1)
    assert (is_well, text) == (False, f"/readyz on {address}: timed out")
