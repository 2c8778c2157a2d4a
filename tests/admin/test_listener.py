"""The admin listener's server: whose requests it answers, what it says to garbage, and how few connections it holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.admin import listener
from proxy.settings import Address
from tests.admin.standing import AdminTestServer, Service
from tests.support import peer as peers
from tests.support.peer import Peer
from tests.support.serving import App, sidecar

ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def server(service):
    async with AdminTestServer(service) as running:
        yield running


@pytest.fixture
async def connect(server):
    async with contextlib.AsyncExitStack() as stack:

        async def connect() -> Peer:
            peer = await peers.connect((server.host, server.port))
            stack.callback(peer.close)
            return peer

        yield connect


async def asked_as(connect, host: str) -> int:
    peer = await connect()
    await peer.send(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return (await peer.read_response()).status


class Test_Host:
    """A page of any site can have its name resolve to this address, and then read what is answered here."""

    @pytest.mark.parametrize(
        "host",
        [
            *(
                "127.0.0.1",
                "127.0.0.1:9901",
                "10.1.2.3:9901",
                "[::1]:9901",
                "[::1]",
                "localhost",
                "LOCALHOST:9901",
            ),
            *("metrics.example", "Metrics.Example:9901", "metrics.example.", ""),
        ],
    )
    async def test_address_localhost_or_configured_name_is_answered(self, service, server, connect, host):
        service.settings = replace(service.settings, admin_hosts=("metrics.example",))
        server.runner.server._admin._names.add("metrics.example")
        assert await asked_as(connect, host) == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3"],
    )
    async def test_any_other_name_gets_a_421_that_tells_nothing(self, connect, host):
        assert await asked_as(connect, host) == 421

    async def test_name_that_is_listened_on_is_answered(self, service, connect):
        service.settings = replace(service.settings, admin=Address("admin.internal", 9901))
        assert await asked_as(connect, "admin.internal:9901") == 200

    async def test_unix_socket_is_out_of_reach_for_pages(self, service, connect):
        service.settings = replace(service.settings, admin=Address(path=Path("s")))
        assert await asked_as(connect, "evil.example") == 200

    async def test_names_are_configured_by_a_flag(self, tmp_path):
        rules = tmp_path / "rules.yaml"
        rules.write_text("version: 1\nrules: []\n")
        flags = ("--admin-hosts", "Metrics.Example, other.example")
        async with App().running() as app, sidecar(app.url, rules, *flags) as running:
            peer = await peers.connect(running.admin)
            for host, status in (("metrics.example", 200), ("other.example:1", 200), ("evil.example", 421)):
                await peer.send(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert (await peer.read_response()).status == status
            peer.close()


class Test_What_is_not_HTTP:
    @pytest.mark.parametrize(
        "garbage",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"garbage\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
            b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    async def test_it_gets_a_400_that_no_cache_keeps_and_one_line_in_the_log(self, connect, garbage, caplog):
        peer = await connect()
        await peer.send(garbage)
        answer = await peer.read_to_end()
        assert answer.status == 400
        assert answer.field("Cache-Control") == [b"no-store"]
        assert answer.field("Server") == [b"nocache-proxy"]
        assert "error" in json.loads(answer.content)
        (record,) = [record for record in caplog.records if record.name.startswith(("proxy", "aiohttp"))]
        assert record.exc_info is None
        assert "\n" not in record.getMessage()
        assert record.getMessage().startswith("admin listener: 400 to 127.0.0.1: ")

    async def test_no_answer_tells_which_library_answers(self, connect):
        peer = await connect()
        for path in (b"/livez", b"/nowhere", b"/api/explain"):
            await peer.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await peer.read_response()).field("Server") == [b"nocache-proxy"]


class Test_Connections:
    async def test_those_over_the_limit_take_the_place_of_the_ones_longest_at_rest(self, connect, server):
        peers = [await connect() for _ in range(listener._MAX_CONNECTIONS)]
        for peer in peers:
            await peer.send(ASK)
            assert (await peer.read_response()).status == 200
        more = [await connect() for _ in range(10)]
        for peer in more:
            await peer.send(ASK)
            assert (await peer.read_response()).status == 200
        assert len(server.runner.server.open) == listener._MAX_CONNECTIONS
        for peer in peers[:10]:
            assert (await peer.read_to_end()).data == b""
        await peers[10].send(ASK)
        assert (await peers[10].read_response()).status == 200

    async def test_where_all_are_being_answered_the_next_is_closed_at_once(self, connect, service, server):
        goes_on = asyncio.Event()

        async def wait() -> list[str]:
            await goes_on.wait()
            return []

        service.reasons_not_ready = wait
        peers = [await connect() for _ in range(listener._MAX_CONNECTIONS)]
        for peer in peers:
            await peer.send(ASK.replace(b"livez", b"readyz"))
        while server.runner.server.resting:
            await asyncio.sleep(0)
        assert (await (await connect()).read_to_end()).data == b""
        goes_on.set()
        for peer in peers:
            assert (await peer.read_response()).status == 200

    @pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: lo"])
    async def test_head_that_does_not_come_in_time_ends_the_connection(
        self, connect, server, monkeypatch, sent
    ):
        monkeypatch.setattr(listener, "_HEAD_S", 0.05)
        peer = await connect()
        await peer.send(sent)
        assert (await peer.read_to_end()).data == b""
        assert not server.runner.server.open

    async def test_answer_that_takes_too_long_ends_the_connection(self, connect, service, monkeypatch):
        monkeypatch.setattr(listener, "_ANSWER_S", 0.05)
        is_given_up = asyncio.Event()

        async def hang() -> list[str]:
            try:
                return await asyncio.Event().wait()
            finally:
                is_given_up.set()

        service.reasons_not_ready = hang
        peer = await connect()
        await peer.send(ASK.replace(b"livez", b"readyz"))
        assert (await peer.read_to_end()).data == b""
        await is_given_up.wait()

    async def test_connection_at_rest_ends_in_time(self, connect, server, monkeypatch):
        monkeypatch.setattr(listener, "_REST_S", 0.05)
        peer = await connect()
        await peer.send(ASK)
        assert (await peer.read_response()).status == 200
        assert (await peer.read_to_end()).data == b""
        assert not server.runner.server.open
