"""The shipped rules in Debian's Chromium on a plain-HTTP intranet, where no field says that a script asks. Issue 16.11.

Browsers send `Sec-Fetch-Dest` only over HTTPS and to localhost, so the page is on a name that Chromium is told to find
on this machine.
"""

from __future__ import annotations

import http.server
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps import serving_in_threads
from tests.support.browser import chromium
from tests.support.serving import serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

HOST = "legacy.intra"
RULES = Path(__file__).parents[2] / "config" / "rules.yaml"
PAGE = b"""<!DOCTYPE html><title>legacy</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/static/page.css">
<script src="/static/page.js"></script>"""
SCRIPT = b"""
async function with_fetch() { return (await (await fetch("/last_uploaded")).json()).number; }
function with_xhr() {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.onload = () => resolve(JSON.parse(xhr.responseText).number);
    xhr.onerror = reject;
    xhr.open("GET", "/last_uploaded");
    xhr.send();
  });
}
async function ask() {
  const seen = {"fetch": [], "xhr": []};
  for (let time = 0; time < 3; time++) seen.fetch.push(await with_fetch());
  for (let time = 0; time < 3; time++) seen.xhr.push(await with_xhr());
  return seen;
}
"""
FILES = {
    "/": (b"text/html", b"no-cache", PAGE),
    "/static/page.js": (b"text/javascript", b"max-age=86400", SCRIPT),
    "/static/page.css": (b"text/css", b"max-age=86400", b"body { margin: 1em }"),
}


@dataclass
class LegacyApp:
    """Pages and static files that may be cached, and data that wrongly may.

    Attributes:
        asked: path, request fields and status of each request.
    """

    asked: list[tuple[str, Message, int]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(17))
    port: int = 0

    def statuses(self, path: str) -> list[int]:
        return [status for asked, _, status in self.asked if asked == path]

    @contextmanager
    def running(self) -> Iterator[None]:
        app = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                status, fields, content = app.answer(self.path, self.headers)
                app.asked.append((self.path, self.headers, status))
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        with serving_in_threads(Handler) as self.port:
            yield

    def answer(self, path: str, sent: Message) -> tuple[int, dict[str, str], bytes]:
        if path == "/last_uploaded":
            data = b'{"number": %d}' % next(self.numbers)
            return 200, {"Content-Type": "application/json", "Cache-Control": "max-age=600"}, data
        if path not in FILES:
            return 404, {"Cache-Control": "max-age=600"}, b""
        kind, lifetime, content = FILES[path]
        fields = {"Cache-Control": lifetime.decode(), "ETag": '"v1"'}
        if sent["If-None-Match"] == '"v1"':
            return 304, fields, b""
        return 200, {**fields, "Content-Type": kind.decode()}, content


@pytest.fixture
def app() -> Iterator[LegacyApp]:
    app = LegacyApp()
    with app.running():
        yield app


@pytest.fixture
def proxy(app: LegacyApp) -> Iterator[str]:
    """The page's address behind the proxy."""
    with serving(app.port, RULES) as (port, _):
        yield f"http://{HOST}:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(f"--host-resolver-rules=MAP {HOST} 127.0.0.1") as running:
        yield running


@pytest.fixture
def profile(browser: Any) -> Iterator[Any]:
    """A browser with an empty cache."""
    context = browser.new_context()
    yield context
    context.close()


def test_without_the_proxy_scripts_are_shown_what_is_old(profile: Any, app: LegacyApp) -> None:
    """The bug: six answers, and the app was asked for the first only."""
    page = profile.new_page()
    page.goto(f"http://{HOST}:{app.port}/")
    assert page.evaluate("ask()") == {"fetch": [17, 17, 17], "xhr": [17, 17, 17]}
    assert app.statuses("/last_uploaded") == [200]


def test_data_is_fresh_each_time_though_nothing_says_that_a_script_asks(
    profile: Any, app: LegacyApp, proxy: str
) -> None:
    page = profile.new_page()
    page.goto(proxy)
    assert page.evaluate("ask()") == {"fetch": [17, 18, 19], "xhr": [20, 21, 22]}
    asked = [fields for path, fields, _ in app.asked if path == "/last_uploaded"]
    assert len(asked) == 6
    assert {fields[name] for fields in asked for name in ("X-Requested-With", "Sec-Fetch-Dest")} == {None}
    assert {fields["Host"] for fields in asked} == {proxy.removeprefix("http://").rstrip("/")}


def test_revisit_takes_static_files_from_the_cache_and_the_page_from_a_304(
    profile: Any, app: LegacyApp, proxy: str
) -> None:
    """The app is asked for the page once more, as a 304 does not say whether it stands for data; the browser is not."""
    received: list[list[int]] = []
    for _ in range(2):
        page = profile.new_page()
        statuses = statuses_received(profile.new_cdp_session(page))
        page.goto(proxy)
        assert page.evaluate("typeof ask") == "function"
        page.close()
        received.append(statuses)
    assert received == [[200, 200, 200], [304]]
    assert app.statuses("/static/page.js") == app.statuses("/static/page.css") == [200]
    assert app.statuses("/") == [200, 304, 200]


def statuses_received(session: Any) -> list[int]:
    """The statuses that come over the network from here on, as they are on the wire."""
    statuses: list[int] = []
    session.on("Network.responseReceivedExtraInfo", lambda event: statuses.append(event["statusCode"]))
    session.send("Network.enable")
    return statuses


def test_data_is_fresh_on_a_revisit_too(profile: Any, app: LegacyApp, proxy: str) -> None:
    """A copy from before, with whatever validators, is not asked about: the app sends the data anew."""
    seen = []
    for _ in range(2):
        page = profile.new_page()
        page.goto(proxy)
        seen += page.evaluate("ask()").values()
        page.close()
    assert seen == [[17, 18, 19], [20, 21, 22], [23, 24, 25], [26, 27, 28]]
