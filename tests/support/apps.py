"""Apps of real frameworks in the test's own process, on free ports."""

from __future__ import annotations

import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web

from tests.support.ports import LOCALHOST


@asynccontextmanager
async def serving_app(app: web.Application, **options: Any) -> AsyncIterator[int]:
    """Run an aiohttp app until the block ends; give its port.

    Args:
        options: of `web.AppRunner`.
    """
    runner = web.AppRunner(app, access_log=None, **options)
    await runner.setup()
    await web.TCPSite(runner, LOCALHOST, 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextmanager
def serving_in_threads(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """Run a server of the standard library until the block ends, where no event loop runs; give its port."""
    with http.server.ThreadingHTTPServer((LOCALHOST, 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
