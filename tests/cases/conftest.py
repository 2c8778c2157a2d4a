"""Fixtures of the cases: the gateway before a scripted upstream, or before real Flask under real servers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.support import RunningGateway, Script, ScriptedUpstream, run_gateway
from tests.legacy.servers import SERVERS, LegacyServer, running

if TYPE_CHECKING:
    from pathlib import Path

Scripted = Callable[..., Awaitable[tuple[RunningGateway, ScriptedUpstream]]]
ToFlask = Callable[..., Awaitable[RunningGateway]]


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[Scripted]:
    """Start a scripted upstream and the gateway before it: `await scripted(script, rules, **settings)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            script: Script, rules: str, **settings: Any
        ) -> tuple[RunningGateway, ScriptedUpstream]:
            upstream = await stack.enter_async_context(ScriptedUpstream(script))
            gateway = await stack.enter_async_context(run_gateway(upstream.port, rules, tmp_path, **settings))
            return gateway, upstream

        yield start


@pytest.fixture(scope="session", params=SERVERS)
def legacy_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LegacyServer]:
    """The legacy app under each of the real servers in turn."""
    with running(request.param, tmp_path_factory.mktemp(request.param) / "log") as server:
        yield server


@pytest.fixture
def legacy(legacy_server: LegacyServer) -> LegacyServer:
    """The same, its log emptied."""
    legacy_server.received()
    return legacy_server


@pytest.fixture
async def to_flask(legacy: LegacyServer, tmp_path: Path) -> AsyncIterator[ToFlask]:
    """Start the gateway before real Flask: `await to_flask(rules_text, **settings)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(rules: str, **settings: Any) -> RunningGateway:
            gateway: RunningGateway = await stack.enter_async_context(
                run_gateway(legacy.port, rules, tmp_path, **settings)
            )
            return gateway

        yield start
