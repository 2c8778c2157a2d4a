"""The page in Debian's Chromium: it loads without an error, explains, and shows what the audit found and what passes."""

from __future__ import annotations

import http.client
import http.server
import itertools
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy import __version__
from tests.support.apps import serving_in_threads
from tests.support.browser import chromium
from tests.support.ports import LOCALHOST
from tests.support.serving import serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

RULES = """\
version: 1
rules:
  - name: cured
    because: a script shows it <b>now</b>
    match: {paths: ["/cured"]}
"""
XHR = {"X-Requested-With": "XMLHttpRequest"}


class App(http.server.BaseHTTPRequestHandler):
    """Every answer is another one, but for `/constant`."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # a head and its content in one segment
    numbers = itertools.count()

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        content = b"{}" if path == "/constant" else b'{"number": %d}' % next(self.numbers)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store" if path == "/good" else "max-age=600")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@dataclass
class Site:
    """A proxy that runs."""

    data_port: int
    admin: str

    def ask(self, path: str, **headers: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.data_port, timeout=10)
        connection.request("GET", path, headers=headers)
        connection.getresponse().read()
        connection.close()

    def report(self) -> dict:
        connection = http.client.HTTPConnection(self.admin, timeout=60)
        connection.request("GET", "/api/audit")
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
        return body


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    rules = tmp_path_factory.mktemp("page") / "rules.yaml"
    rules.write_text(RULES)
    with serving_in_threads(App) as app, running(rules, app) as site:
        for _ in range(2):
            site.ask("/stale", **XHR)
            site.ask("/items/1?token=s3cr3t", Cookie="session=s3cr3t")
            site.ask("/items/2", Cookie="session=other")
            for path in (
                "/cured",
                "/good",
                "/constant",
                "/a/path/that/is/so/long/that/it/does/not/fit/on/a/telephone",
            ):
                site.ask(path)
        wait_until(lambda: site.report()["responses"] >= 14)
        yield site


@contextmanager
def running(rules: Path, app: int) -> Iterator[Site]:
    with serving(app, rules) as (data, admin):
        yield Site(data, f"{LOCALHOST}:{admin}")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[390, 1280], ids=["telephone", "desk"])
def page(request, browser, site):
    """The page, opened; no script of it fails, nothing is refused by its policy, nothing overflows."""
    with opened(browser, site, request.param) as page:
        yield page


@contextmanager
def opened(browser, site: Site, width: int = 1280, *, has_clock: bool = False):
    """The page, with the test's clock if it wants one."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    said: list[str] = []
    page.on(
        "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    if has_clock:
        page.clock.install()
    page.goto(f"http://{site.admin}/")
    page.get_by_text("Ready: takes traffic.").wait_for()
    page.locator("#audit-routes li").first.wait_for(timeout=60_000)
    page.get_by_text("Recorded since").wait_for()
    yield page
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def routes(page) -> list[str]:
    return [" ".join(text.split()) for text in page.locator("#audit-routes summary").all_inner_texts()]


def test_nothing_is_cut_at_any_width(browser, site, mark):
    """With all open that opens, in the light and in the dark."""
    with opened(browser, site) as page:
        site.ask(
            f"/cured?{mark}&" + "a-long-name=and-its-value&" * 20,
            Cookie="session=s3cr3t",
            **{"X-Long": "x" * 400},
        )
        row = page.locator("#recent > tr", has=page.get_by_role("button", name=mark))
        row.get_by_role("button").click()
        page.get_by_role("button", name="Open in Explain").click()
        page.locator("#answer").get_by_text("DECIDES: ").wait_for()
        for card in page.locator("#audit-routes summary").all():
            card.click()
        for width in (390, 640, 641, 768, 1024, 1920, 1280):
            for scheme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(CUT) == [], (width, scheme)
                assert page.evaluate(UNREADABLE) == [], (width, scheme)


CUT = """() => [...document.querySelectorAll("main *")]
    .filter((one) => one.getClientRects().length && !one.closest("thead"))
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 || one.getBoundingClientRect().left < 0
        || (one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0 && getComputedStyle(one).overflowX !== "visible"
            && !["TEXTAREA", "INPUT"].includes(one.tagName)))
    .map((one) => one.tagName + "." + one.className + " " + one.textContent.slice(0, 60))"""

# Text of a contrast below 4.5, WCAG 2 section 1.4.3, on the page's own background.
UNREADABLE = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    canvas.fillStyle = "white";
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) =>
      value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const behind = luminance(isDark ? "#121212" : "#ffffff");
  return [...document.querySelectorAll("main *")]
    .filter((one) => one.getClientRects().length && !one.closest("button, textarea, input, thead"))
    .filter((one) => [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()))
    .filter((one) => {
      const own = luminance(getComputedStyle(one).color);
      return (Math.max(own, behind) + 0.05) / (Math.min(own, behind) + 0.05) < 4.5;
    })
    .map((one) => one.tagName + "." + one.className + " " + one.textContent.slice(0, 60));
}"""


def test_rules_are_shown_as_text(page):
    assert "a script shows it <b>now</b>" in page.locator("#rules").inner_text()


def test_refused_rules_are_amber_and_an_app_that_is_gone_is_red(browser, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    with ExitStack() as running_app:
        app = running_app.enter_context(serving_in_threads(App))
        with running(rules, app) as other:
            page = browser.new_page()
            page.goto(f"http://{other.admin}/")
            page.locator("#state.good").wait_for()
            rules.write_text("version: 1\nrules: [{name: a, matches: {}}]\n")
            page.locator("#state.warn").wait_for()
            note = "The rules file cannot be used, the rules before it are in force:"
            assert page.locator("#state").inner_text().startswith(f"Ready: takes traffic.\n{note}")
            said = page.locator("#process").inner_text()
            told = re.fullmatch(r"Version (\S+), in front of (\S+), since .+, (.+)\.", said)
            assert told.groups() == (__version__, f"http://{LOCALHOST}:{app}", "1 of 1 worker")
            running_app.close()
            page.locator("#state.bad").wait_for()
            assert "Upstream: the app does not accept connections" in page.locator("#state").inner_text()
            page.close()


def test_explain_answers_with_what_caches_may_do(page):
    page.get_by_label("Target").fill("/cured")
    page.get_by_role("button", name="Explain").click()
    answer = page.locator("#answer")
    answer.get_by_text("DECIDES: policy strict").wait_for()
    assert "a browser must not store it; without the rules it may reuse it for 600 s" in answer.inner_text()


def test_audit_shows_the_worst_routes_first_with_evidence_and_rule(page):
    shown = routes(page)
    verdicts = [line.split()[0] for line in shown]
    assert verdicts == sorted(verdicts, key=["leak", "stale", "possible", "protected", "fine"].index)
    assert any(line.startswith("stale GET /stale") for line in shown)
    assert any(line.startswith("protected GET /cured") for line in shown)
    assert any(line.startswith("fine GET /good") for line in shown)
    page.locator("summary", has_text="GET /stale").click()
    card = page.locator("details", has=page.locator("summary", has_text="GET /stale"))
    assert "The content changed" in card.inner_text()
    assert re.search(r"Asked by\s+xhr 2", card.inner_text())
    assert "script_request: true" in card.locator("pre").inner_text()
    assert "s3cr3t" not in page.content()


def test_rule_is_copied_with_one_press_of_a_key(page):
    page.locator("summary", has_text="GET /stale").focus()
    page.keyboard.press("Enter")
    card = page.locator("details", has=page.locator("summary", has_text="GET /stale"))
    card.get_by_role("button", name="Copy").focus()
    page.keyboard.press("Enter")
    card.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == card.locator("pre").text_content()


def test_filter_shows_one_verdict(page):
    page.get_by_role("button", name=re.compile("^stale")).click()
    assert {line.split()[0] for line in routes(page)} == {"stale"}
    pressed = page.locator("#audit-filter [aria-pressed=true]")
    assert pressed.inner_text().startswith("stale")
    assert pressed.evaluate("element => element === document.activeElement")
    page.get_by_role("button", name=re.compile("^all")).click()
    assert len({line.split()[0] for line in routes(page)}) > 2


def test_all_rules_at_once_are_the_file_that_the_command_prints(page, site):
    page.get_by_text("All proposed rules, with tests").click()
    assert page.locator("#audit-rules").text_content() == site.report()["rules"]


# Recent requests


@pytest.fixture
def mark(marks=itertools.count()) -> str:  # noqa: B008 - one for all tests
    """What no other test asks for: the proxy shows each page the requests of the tests before."""
    return f"m{next(marks)}"


def row_of(page, target: str):
    """The row of an exchange, once it is shown."""
    row = page.locator("#recent > tr", has=page.get_by_role("button", name=target, exact=True))
    row.wait_for()
    return row


def test_recent_request_shows_fields_before_and_after_and_opens_in_explain(page, site, mark):
    """By keyboard alone, but for the way to the row."""
    site.ask(f"/cured?{mark}&token=s3cr3t", Cookie="session=s3cr3t", Accept="*/*")
    row = row_of(page, f"/cured?{mark}&token=(hidden)")
    assert (
        re.search(r"GET.*200.*cured.*strict.* ms", " ".join(row.inner_text().split()))
        or page.viewport_size["width"] < 640
    )
    opener = row.get_by_role("button")
    opener.focus()
    page.keyboard.press("Enter")
    assert opener.get_attribute("aria-expanded") == "true"
    detail = page.locator("#recent > tr.detail")
    request, response = detail.locator(".head").all()
    assert "The rule cured decided: policy strict" in detail.inner_text()
    assert {
        f"GET /cured?{mark}&token=(hidden) HTTP/1.1",
        "Cookie: (hidden)",
        "+ X-Forwarded-For: 127.0.0.1",
    } <= lines(request)
    changed = lines(response)
    assert "\u2212 Cache-Control: max-age=600" in changed
    assert any(line.startswith("+ Cache-Control: no-store") for line in changed)
    assert "Content-Type: application/json" in changed
    assert "s3cr3t" not in page.content()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    answer = page.locator("#answer")
    answer.get_by_text("DECIDES: policy strict").wait_for()
    assert page.get_by_label("Target", exact=True).input_value() == f"/cured?{mark}&token=(hidden)"
    assert "Cookie: (hidden)" in page.locator("[name=header]").input_value()
    assert "Cache-Control: max-age=600" in page.locator("[name=response_header]").input_value().splitlines()
    assert page.locator("#explain-title").evaluate("title => title === document.activeElement")
    opener.press("Enter")
    assert page.locator("#recent > tr.detail").count() == 0


def lines(head) -> set[str]:
    return set(head.locator("li").all_inner_texts())


def test_row_is_opened_by_a_click_on_any_of_its_cells(page, site, mark):
    site.ask(f"/good?{mark}")
    row = row_of(page, f"/good?{mark}")
    row.locator("td").nth(3).click()
    detail = page.locator("#recent > tr.detail")
    assert "No rule matched: the response passed as it was." in detail.inner_text()
    assert "As the app sent it, and the client got it." in detail.inner_text()
    row.locator("td").nth(3).click()
    assert detail.count() == 0


def test_request_that_is_refused_says_why(page, site, mark):
    with socket.create_connection((LOCALHOST, site.data_port)) as raw:
        raw.sendall(f"GET /{mark} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode())
        assert b" 400 " in raw.recv(4096)
    row_of(page, f"/{mark}").get_by_role("button").click()
    detail = page.locator("#recent > tr.detail")
    assert (
        "The proxy answered in place of the app: bad_request (missing, double or malformed Host)."
        in detail.inner_text()
    )


def test_markup_in_a_request_is_text(page, site, mark):
    target = f"/{mark}?<img/src=x/onerror=document.title=1>"
    site.ask(target, Accept="<script>document.title=1</script>")
    row = row_of(page, target)
    row.get_by_role("button").click()
    assert "Accept: <script>document.title=1</script>" in page.locator("#recent > tr.detail").inner_text()
    assert page.locator("#recent img, #recent script").count() == 0
    assert page.title() == "nocache-proxy"


def test_filter_hides_what_does_not_contain_it(page, site, mark):
    for path in (f"/cured?{mark}", f"/good?other{mark}"):
        site.ask(path)
    row_of(page, f"/cured?{mark}").get_by_role("button").click()
    other = row_of(page, f"/good?other{mark}")
    page.get_by_label("Filter").fill(f"CURED?{mark}")
    assert other.is_hidden()
    assert set(page.locator("#recent > tr:not(.detail):visible button").all_inner_texts()) == {
        f"/cured?{mark}"
    }
    assert page.locator("#recent > tr.detail").is_visible()
    page.get_by_label("Filter").fill("nowhere")
    assert page.get_by_text("No request contains this text.").is_visible()
    assert page.locator("#recent > tr.detail").is_hidden()
    page.get_by_label("Filter").fill("")
    assert other.is_visible()


def test_clear_forgets_what_is_shown_and_goes_on(page, site, mark):
    site.ask(f"/good?before{mark}")
    row_of(page, f"/good?before{mark}")
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#recent > tr").count() == 0
    site.ask(f"/good?after{mark}")
    row_of(page, f"/good?after{mark}")
    assert page.get_by_role("button", name=f"/good?before{mark}").count() == 0


def test_page_that_is_paused_asks_for_nothing_and_goes_on_where_it_was(browser, site, mark):
    with opened(browser, site, has_clock=True) as page:
        page.get_by_role("button", name="Pause").click()
        assert page.get_by_role("button", name="Pause").get_attribute("aria-pressed") == "true"
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        site.ask(f"/good?{mark}")
        with page.expect_request("**/readyz"):  # which is asked for less often
            page.clock.run_for(20_000)
        assert not [url for url in asked if "/api/recent" in url]
        page.get_by_role("button", name="Pause").click()
        row_of(page, f"/good?{mark}")
        assert page.get_by_text("Recorded since").is_visible()


def test_page_shows_the_last_200(browser, site):
    with opened(browser, site) as page:
        for number in range(210):
            site.ask(f"/good?{number}")
        row_of(page, "/good?209")
        assert page.locator("#recent > tr").count() == 200
        assert page.get_by_role("button", name="/good?9", exact=True).count() == 0


def test_start_over_forgets_what_was_seen(browser, site, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    with serving_in_threads(App) as app, running(rules, app) as other:
        other.ask("/stale")
        wait_until(lambda: other.report()["responses"] == 1)
        page = browser.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"http://{other.admin}/")
        page.locator("#audit-routes li").wait_for(timeout=60_000)
        page.get_by_role("button", name="Start over").click()
        page.get_by_text("The audit has seen no answer of the app yet.").wait_for(timeout=60_000)
        assert other.report()["responses"] == 0
        page.close()


def test_page_of_another_site_can_neither_read_nor_reset(browser, site):
    page = browser.new_page()
    page.goto(f"http://localhost:{site.data_port}/good")
    for script in (
        f"fetch('http://{site.admin}/api/audit/reset', {{method: 'POST', mode: 'no-cors'}}).then(r => r.type)",
        f"fetch('http://{site.admin}/api/audit', {{mode: 'no-cors'}}).then(r => r.text())",
    ):
        assert page.evaluate(script) in ("opaque", "")
    page.close()
    assert site.report()["responses"] >= 14
