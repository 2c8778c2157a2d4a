"""A proxy that was told that it is its own app, by whatever name or way: 508, and no chain of connections. Issue 16.7."""

from __future__ import annotations

import socket

import pytest

from tests.support.gateway import bench, make_gateway
from tests.support.peer import connect

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("family", "bound"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")],
    ids=["IPv4", "both families"],
)
async def test_request_that_comes_back_is_answered_508_once(family, bound):
    listening = socket.socket(family)
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind((bound, 0))
    port = listening.getsockname()[1]
    gateway = make_gateway(f"http://127.0.0.1:{port}")
    await gateway.start([listening])
    try:
        peer = await connect(("127.0.0.1", port))
        await peer.send(GET)
        answer = await peer.read_to_end()
        peer.close()
    finally:
        gateway.close()
    assert answer.status == 508
    assert answer.is_protected
    assert answer.field("Proxy-Status") == [b"nocache-proxy; error=proxy_loop_detected"]
    assert gateway.stats.client_connections_total == 2
    assert gateway.stats.proxy_errors == {"loop_detected": 1}


async def test_clients_are_no_loop():
    async with bench() as b:
        assert (await b.exchange(GET)).status == 200
        assert not b.gateway.stats.proxy_errors
        assert len(b.gateway.context.own_endpoints) == b.gateway.stats.upstream_connections
