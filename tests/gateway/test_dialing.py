"""How the app is reached: at the first of its addresses that answers (RFC 8305), under its name without a final dot."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.gateway.dialing import Dialer, _is_address
from proxy.settings import Settings, Upstream
from tests.support.waiting import LIMIT_S
from tests.wire.test_timeouts import full_backlog


@pytest.fixture
def names(monkeypatch):
    """What names resolve to, in order: (address, port)."""
    known: dict[str, list[tuple[str, int]]] = {}

    async def resolve(self, _loop):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in known[self._upstream.host]
        ]

    monkeypatch.setattr(Dialer, "_resolve", resolve)
    return known


@pytest.fixture
async def app():
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


def dialer(url: str) -> Dialer:
    return Dialer(Settings(upstream=Upstream.parse(url)))


@pytest.mark.parametrize("dead_first", [True, False])
async def test_dead_address_beside_one_that_answers_costs_a_moment(names, app, dead_first):
    """Without that, every request waited for the connect time-out, and got a 504. Issue 16.4."""
    with full_backlog() as dead:
        names["app"] = sorted([("127.0.0.1", dead), app], key=lambda address: (address == app) is dead_first)
        transport = await asyncio.wait_for(dialer("http://app:80").dial(asyncio.Protocol()), LIMIT_S)
        assert transport.get_extra_info("peername") == app
        transport.abort()


async def test_address_that_refuses_beside_one_that_answers_costs_nothing(names, app):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        names["app"] = [free.getsockname(), app]
        transport = await asyncio.wait_for(dialer("http://app:80").dial(asyncio.Protocol()), LIMIT_S)
        assert transport.get_extra_info("peername") == app
        transport.abort()


async def test_name_that_nothing_answers_for_is_an_error(names):
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        names["app"] = [one.getsockname(), other.getsockname()]
        with pytest.raises(ConnectionRefusedError):
            await dialer("http://app:80").dial(asyncio.Protocol())


def test_final_dot_of_a_name_is_the_resolver_s_business():
    made = dialer("https://app.example.:443")
    assert (made._upstream.host, made._server_hostname) == ("app.example.", "app.example")


@pytest.mark.parametrize(
    ("host", "is_address"), [("127.0.0.1", True), ("::1", True), ("fe80::1%lo", True), ("app", False)]
)
def test_addresses_are_told_from_names(host, is_address):
    assert _is_address(host) is is_address
