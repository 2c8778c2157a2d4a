"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Run a browser until the block ends; skip the test where there is none, but fail in CI, which installs it."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not _CHROMIUM.exists() and "CI" not in os.environ:
        pytest.skip("Debian's package chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()
