"""Records `chromium.har` with Debian's Chromium: a page that asks an app by fetch() and XMLHttpRequest, opened twice.

Run it again when Chromium writes another form of HAR: `python -m tests.audit.recordings.record`. It needs Playwright and
Debian's package `chromium`.
"""

from __future__ import annotations

import asyncio
import http.server
import itertools
import threading
from pathlib import Path

from playwright.async_api import async_playwright

PAGE = b"""<!doctype html><title>wait</title><script>
async function go() {
  for (let i = 0; i < 2; i++) { await (await fetch("/api/cached")).text(); await (await fetch("/api/secret")).text(); }
  await (await fetch("/api/changing?_=" + "1", {cache: "no-store"})).text();
  await (await fetch("/api/changing?_=" + "1", {cache: "no-store"})).text();
  await fetch("/missing");
  const xhr = new XMLHttpRequest();
  xhr.open("GET", "/xhr/last");
  xhr.setRequestHeader("X-Requested-With", "XMLHttpRequest");
  xhr.onload = () => { document.title = "done"; };
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
            "/xhr/last": (200, number, [json]),
            "/static/logo.3f2a9c81.png": (
                200,
                PIXEL,
                [("Content-Type", "image/png"), ("Cache-Control", "max-age=31536000")],
            ),
        }
        status, content, fields = answers.get(path, (404, b"no such page", [("Content-Type", "text/plain")]))
        self.send_response(status)
        for name, value in (*fields, ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


async def record(site: str, to: Path) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = await browser.new_context(record_har_path=to, record_har_content="embed")
        page = await context.new_page()
        for _ in range(2):
            await page.goto(site)
            await page.wait_for_function("document.title == 'done'")
        await context.close()
        await browser.close()


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = Path(__file__).parent
        asyncio.run(record(f"http://127.0.0.1:{server.server_address[1]}/", here / "chromium.har"))
        server.shutdown()
