"""Fixtures of the cases: the gateway before a scripted upstream, or before real Flask under real servers."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.cases.support import Asked
from tests.legacy.servers import SERVERS, LegacyServer, running
from tests.support.gateway import bench
from tests.support.peer import Recorder
from tests.support.upstream import Response, Script, answering

Scripted = Callable[..., Awaitable[tuple[Asked, Recorder]]]
ToFlask = Callable[..., Awaitable[Asked]]


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    """Start a scripted upstream and the gateway before it: `await scripted(response or script, rules, **settings)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(script: Script | Response, rules: str, **settings: Any) -> tuple[Asked, Recorder]:
            made = script if inspect.iscoroutinefunction(script) else answering(script)
            b = await stack.enter_async_context(bench(made, rules=rules, **settings))
            return Asked(b), b.recorder

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
async def to_flask(legacy: LegacyServer) -> AsyncIterator[ToFlask]:
    """Start the gateway before real Flask: `await to_flask(rules_text, **settings)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(rules: str, **settings: Any) -> Asked:
            upstream = f"http://127.0.0.1:{legacy.port}"
            return Asked(await stack.enter_async_context(bench(rules=rules, upstream=upstream, **settings)))

        yield start
