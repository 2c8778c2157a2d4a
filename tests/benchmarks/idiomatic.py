"""The baseline: a proxy as the aiohttp documentation teaches it, `web.Application` and `ClientSession`."""

from __future__ import annotations

import email.utils
import logging
import sys
from typing import TYPE_CHECKING, Final

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOP_BY_HOP: Final = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
EXCLUDED: Final = ("/static/", "/file/download/")
CONDITIONAL: Final = {"if-none-match", "if-modified-since", "if-range", "range"}
UPSTREAM = web.AppKey("UPSTREAM", str)
SESSION = web.AppKey("SESSION", ClientSession)


async def forward(request: web.Request) -> web.StreamResponse:
    is_script = request.headers.get("X-Requested-With", "").lower() == "xmlhttprequest"
    enforced = is_script and request.method in {"GET", "HEAD"} and not request.path.startswith(EXCLUDED)
    dropped = HOP_BY_HOP | CONDITIONAL if enforced else HOP_BY_HOP
    fields = CIMultiDict(
        (name, value) for name, value in request.headers.items() if name.lower() not in dropped
    )
    fields.add("X-Forwarded-For", request.remote or "unknown")
    fields.add("Via", "1.1 idiomatic")
    content = request.content if request.body_exists else None
    url = request.app[UPSTREAM] + request.raw_path
    async with request.app[SESSION].request(
        request.method, url, headers=fields, data=content, allow_redirects=False
    ) as answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in HOP_BY_HOP:
                response.headers.add(name, value)
        response.headers.add("Vary", "X-Requested-With")
        if enforced:
            response.headers["Cache-Control"] = (
                "no-store, no-cache, must-revalidate, post-check=0, pre-check=0"
            )
            response.headers["Pragma"] = "no-cache"
            response.headers["Expires"] = "Thu, 01 Dec 1994 16:00:00 GMT"
            response.headers["Last-Modified"] = email.utils.formatdate(usegmt=True)
            response.headers.popall("ETag", None)
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    connector, timeout = TCPConnector(limit=0), ClientTimeout(total=None)
    async with ClientSession(
        connector=connector, timeout=timeout, cookie_jar=DummyCookieJar(), auto_decompress=False
    ) as app[SESSION]:
        yield


def main(port: int, upstream_port: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app = web.Application(client_max_size=0)
    app[UPSTREAM] = f"http://127.0.0.1:{upstream_port}"
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{tail:.*}", forward)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
