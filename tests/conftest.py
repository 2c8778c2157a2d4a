"""What all tests share: uvloop, as in production, and hypothesis profiles."""

from __future__ import annotations

import os

import pytest
import uvloop
from hypothesis import HealthCheck, settings

import proxy.gateway.exchange

settings.register_profile(
    "default", max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("slow", parent=settings.get_profile("default"), max_examples=200_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """Run async tests on the event loop that `serve` runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what changes the insides of modules where those are compiled: nothing would change."""
    if proxy.gateway.exchange.__file__.endswith(".py"):
        return
    for item in items:
        if item.get_closest_marker("interpreted"):
            item.add_marker(pytest.mark.skip(reason="changes what is fixed in compiled code"))
