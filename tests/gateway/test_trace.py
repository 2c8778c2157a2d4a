"""`--log-level debug` says something on each phase of an exchange, and costs nothing where nobody reads it."""

from __future__ import annotations

import logging
import re

import pytest

from proxy.gateway.exchange import Exchange
from tests.support.gateway import bench
from tests.wire.test_upgrade import asking, echoing


def said(caplog) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name == "proxy.gateway.trace"]
    matches = [re.fullmatch(r"exchange [0-9a-f]+, \d+\.\d ms: (.*)", line) for line in found]
    return [match[1] for match in matches if match]


@pytest.fixture
def debug(caplog):
    caplog.set_level(logging.DEBUG, "proxy.gateway.trace")


async def test_each_phase_of_an_exchange_is_told(debug, caplog):
    async with bench() as b:
        await b.exchange(
            b"GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Requested-With: XMLHttpRequest\r\n\r\n"
        )
    lines = said(caplog)
    assert lines[0] == "GET /a?b from 127.0.0.1"
    phases = [line for line in lines if line in {"connecting", "sending", "awaiting", "relaying"}]
    assert phases == ["connecting", "awaiting", "relaying"]
    assert "the app answers 200" in lines
    assert any(line.startswith("connected; rule ") for line in lines)
    assert lines[-1].startswith("done: 200, rule ")


async def test_failure_is_told_with_who_failed(debug, caplog):
    async with bench(upstream="http://127.0.0.1:1") as b:
        await b.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert said(caplog)[-1].endswith(", connect_refused (upstream)")


async def test_tunnel_is_told(debug, caplog):
    async with bench(echoing()) as b:
        peer = await b.connect()
        await peer.send(asking())
        await peer.read_head()
    assert "becomes a tunnel" in said(caplog)


async def test_without_debug_exchanges_are_the_plain_ones(caplog):
    async with bench() as b:
        assert b.gateway._begin_exchange.func is Exchange
        await b.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert not said(caplog)
