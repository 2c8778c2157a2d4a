"""The production gateway in the test's own process, between a scripted upstream and raw sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from proxy.gateway.access_log import AccessLog
from proxy.gateway.server import Gateway
from proxy.rules.engine.matching import Ruleset
from proxy.rules.loading import loader
from proxy.rules.model import Rule
from proxy.rules.policies import PASS, STRICT
from proxy.settings import Settings, Upstream
from proxy.stats import Stats
from tests.rules.making import conditions, field_key
from tests.support.peer import Answer, Peer, Place, Recorder, ask, connect
from tests.support.ports import LOCALHOST
from tests.support.upstream import Script, scripted
from tests.support.waiting import until

RULES = (
    Rule("downloads", PASS, conditions(paths=("/download/**",))),
    Rule(
        "ajax",
        STRICT,
        conditions(fields=(field_key("X-Requested-With", globs=("XMLHttpRequest",), by_member=True),)),
    ),
)


class Bench:
    """A gateway under test with its upstream.

    Attributes:
        may_fail: by itself; else a test in which it does fails.
    """

    def __init__(self, gateway: Gateway, address: tuple[str, int], recorder: Recorder) -> None:
        self.gateway = gateway
        self.address = address
        self.recorder = recorder
        self.may_fail = False
        self._peers: list[Peer] = []

    async def connect(self, place: Place | None = None) -> Peer:
        """Open a connection that ends with the bench, at the latest."""
        peer = await connect(place or self.address)
        self._peers.append(peer)
        return peer

    async def exchange(self, data: bytes, *, piece: int = 0) -> Answer:
        """Send bytes and read until the connection ends. The request should ask for a close."""
        return await ask(self.address, data, piece=piece)

    async def settled(self) -> None:
        """Wait until nothing is in flight and no client is connected."""
        await until(lambda: not self.gateway.stats.in_flight and not self.gateway.clients)

    async def ticks(self, count: int) -> None:
        """Wait until the gateway's clock has ticked: time enough for every byte that could move to have moved."""
        for _ in range(count):
            seen = self.gateway.context.clock.now_s
            await until(lambda seen=seen: self.gateway.context.clock.now_s > seen)

    def close_clients(self) -> None:
        for peer in self._peers:
            peer.writer.transport.abort()


@asynccontextmanager
async def bench(
    script: Script | None = None, *, rules: Sequence[Rule] | str = RULES, upstream: str = "", **settings: Any
) -> AsyncIterator[Bench]:
    """Run the production gateway on a free port in front of a scripted upstream.

    Args:
        script: run for each connection that the upstream accepts; `answering` by default.
        rules: as values, or as the text of a rules file.
        upstream: an address instead of a scripted upstream.
        settings: attributes of `Settings`.
    """
    async with AsyncExitStack() as stack:
        recorder = Recorder() if upstream else await stack.enter_async_context(scripted(script))
        gateway = make_gateway(upstream or recorder.url, rules, **settings)
        listening = socket.create_server((LOCALHOST, 0))
        await gateway.start([listening])
        under_test = Bench(gateway, listening.getsockname(), recorder)
        try:
            yield under_test
        finally:
            under_test.close_clients()
            gateway.close()
        mistakes = gateway.stats.proxy_errors["internal_error"] + gateway.stats.decision_failures_total
        assert under_test.may_fail or not mistakes, "see the log"


def make_gateway(
    upstream: str = "http://127.0.0.1:1", rules: Sequence[Rule] | str = (), **settings: Any
) -> Gateway:
    """Make a gateway that does not listen yet; see `bench`."""
    ruleset = loader.loads(rules.encode(), "rules.yaml").ruleset if isinstance(rules, str) else Ruleset(rules)
    return Gateway(
        Settings(upstream=Upstream.parse(upstream), **settings),
        ruleset,
        Stats(),
        AccessLog("off"),
        asyncio.get_running_loop(),
    )
