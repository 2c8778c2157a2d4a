"""What most tests of the whole service start from: an app, and rules for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.serving import RULES, App


@pytest.fixture
async def app():
    async with App().running() as running:
        yield running


@pytest.fixture
def rules(tmp_path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES % "first")
    return path
