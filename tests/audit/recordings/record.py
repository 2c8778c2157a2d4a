"""Records the HAR files beside it: a page that asks an app by fetch() and XMLHttpRequest, opened twice.

`chromium.har` is Playwright's, with Debian's Chromium; `firefox.har` and `firefox-without-content.har` are written by the
network panel of Debian's Firefox. Run it again when they write another form of HAR: `python -m tests.audit.recordings.record`.
"""

from __future__ import annotations

import asyncio
import http.server
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.audit.recordings import firefox
from tests.support.apps import serving_in_threads
from tests.support.ports import free_port

PAGE = b"""<!doctype html><title>wait</title><script>
async function go() {
  for (let i = 0; i < 2; i++) { await (await fetch("/api/cached")).text(); await (await fetch("/api/secret")).text(); }
  await (await fetch("/api/changing?_=" + "1", {cache: "no-store"})).text();
  await (await fetch("/api/changing?_=" + "1", {cache: "no-store"})).text();
  await (await fetch("/api/tagged")).text();
  if (document.cookie.includes("again")) await (await fetch("/api/tagged")).text();
  document.cookie = "again=1";
  await (await fetch("/missing")).text();
  const xhr = new XMLHttpRequest();
  xhr.open("GET", "/xhr/last");
  xhr.setRequestHeader("X-Requested-With", "XMLHttpRequest");
  xhr.onload = () => setTimeout(() => { document.title = "done"; }, 500);  // so that what records has seen it all
  xhr.send();
}
go();
</script><img src="/static/logo.3f2a9c81.png">"""
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    counter = itertools.count(1)

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        number = b'{"number": %d}' % next(self.counter)
        json = ("Content-Type", "application/json")
        answers = {
            "/": (
                200,
                PAGE,
                [("Content-Type", "text/html"), ("Set-Cookie", "session=s3cr3t-cookie; HttpOnly")],
            ),
            "/api/cached": (200, number, [json, ("Cache-Control", "max-age=60")]),
            "/api/secret": (200, b'{"secret": "s3cr3t-content"}', [json, ("Cache-Control", "no-store")]),
            "/api/changing": (
                200,
                number,
                [json, ("Cache-Control", "max-age=600"), ("ETag", f'"{number[11:-1].decode()}"')],
            ),
            "/api/tagged": (200, number[:10], [json, ("Cache-Control", "no-cache"), ("ETag", '"1"')]),
            "/xhr/last": (200, number, [json]),
            "/static/logo.3f2a9c81.png": (
                200,
                PIXEL,
                [("Content-Type", "image/png"), ("Cache-Control", "max-age=31536000")],
            ),
        }
        status, content, fields = answers.get(path, (404, b"no such page", [("Content-Type", "text/plain")]))
        if self.headers["If-None-Match"] and ("ETag", self.headers["If-None-Match"]) in fields:
            status, content = 304, b""
        self.send_response(status)
        for name, value in (*fields, ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[str]:
    """Run the app; give its address."""
    with serving_in_threads(App) as port:
        yield f"http://127.0.0.1:{port}/"


async def record_chromium(site: str, to: Path) -> None:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = await browser.new_context(record_har_path=to, record_har_content="embed")
        page = await context.new_page()
        for _ in range(2):
            await page.goto(site)
            await page.wait_for_function("document.title == 'done'")
        await context.close()
        await browser.close()


def record_firefox(site: str, *, with_content: bool = True) -> str:
    content = {"devtools.netmonitor.har.includeResponseBodies": with_content}
    with firefox.running(free_port(), **content) as browser:
        for _ in range(2):
            browser.open(site, "done")
            text = browser.har()  # a page that is left too soon has entries without an answer
        return text


if __name__ == "__main__":
    here = Path(__file__).parent
    with serving() as site:
        asyncio.run(record_chromium(site, here / "chromium.har"))
    for name, with_content in (("firefox.har", True), ("firefox-without-content.har", False)):
        with serving() as site:
            (here / name).write_text(record_firefox(site, with_content=with_content) + "\n", encoding="utf-8")
