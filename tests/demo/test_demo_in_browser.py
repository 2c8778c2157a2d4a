"""`demo --keep` in Debian's Chromium: the clock stands still without the proxy and runs behind it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import chromium

pytest.importorskip("playwright.sync_api")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[str, str]]:
    """Run the demo; give the addresses that it prints, by their names."""
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "--keep"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        found: dict[str, str] = {}
        for line in process.stdout:
            if match := re.match(r"  (without the proxy|behind the proxy|side by side) +(http://\S+)", line):
                found[match[1]] = match[2]
            if "access log  " in line:
                break
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a new profile, whose cache is empty; no script of it fails."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert said == []


def shown(page: Page | Frame) -> str:
    return page.locator("#shown").inner_text()


def until_the_app_says_another_time(page: Page | Frame, times: int = 3) -> None:
    for _ in range(times):
        before = page.locator("#truth").inner_text()
        page.wait_for_function(
            "before => document.getElementById('truth').textContent !== before", arg=before
        )


def test_clock_stands_still_without_the_proxy(page: Page, sites: dict[str, str]) -> None:
    """Until the lifetime is over, even after a visit to another page."""
    page.goto(sites["without the proxy"])
    page.locator("#verdict.stale").wait_for()
    assert "repeats an answer" in page.locator("#verdict").inner_text()
    assert page.locator("#where").inner_text() == "Without the proxy"
    assert page.locator("#field").inner_text() == "max-age=600"
    before = shown(page)
    until_the_app_says_another_time(page)
    assert shown(page) == before
    page.goto("about:blank")
    page.goto(sites["without the proxy"])
    page.locator("#verdict.stale").wait_for()
    assert shown(page) == before


def test_clock_runs_behind_the_proxy(page: Page, sites: dict[str, str]) -> None:
    page.goto(sites["behind the proxy"])
    page.locator("#verdict.fresh").wait_for()
    assert page.locator("#where").inner_text() == "Behind the proxy"
    assert "no-store" in page.locator("#field").inner_text()
    before = shown(page)
    until_the_app_says_another_time(page)
    assert shown(page) != before
    page.locator("#verdict.fresh").wait_for()


def test_both_are_shown_side_by_side(page: Page, sites: dict[str, str]) -> None:
    page.goto(sites["side by side"])
    without, behind = (
        next(frame for frame in page.frames if frame.url == sites[name])
        for name in ("without the proxy", "behind the proxy")
    )
    without.locator("#verdict.stale").wait_for()
    until_the_app_says_another_time(behind)
    behind.locator("#verdict.fresh").wait_for()
    assert without.locator("#verdict").get_attribute("class") == "stale"


def test_each_page_leads_to_the_other(page: Page, sites: dict[str, str]) -> None:
    page.goto(sites["without the proxy"])
    page.get_by_role("link", name="The same page behind the proxy").click()
    page.wait_for_url(sites["behind the proxy"])
    page.get_by_role("link", name="The same page without the proxy").click()
    page.wait_for_url(sites["without the proxy"])
    page.get_by_role("link", name="Both, side by side").click()
    page.wait_for_url(sites["side by side"])
