"""What the real clients of `test_clients` ask: an app of aiohttp's that sends one file in every way."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.apps import serving_app

MIB = 1024 * 1024
FILE = b"".join(hashlib.sha512(b"%d" % n).digest() for n in range(4 * MIB // 64))
GZIPPED = gzip.compress(FILE, 1)
DIGEST = hashlib.sha256(FILE).hexdigest()
STORABLE = "public, max-age=600"


@dataclass
class App:
    """An aiohttp app, and what it saw.

    Attributes:
        versions: of HTTP, as the requests came.
        continued: how many `100 Continue` it was asked for.
        released: lets `/events` send its second event.
    """

    file: Path
    port: int = 0
    versions: list[tuple[int, int]] = field(default_factory=list)
    continued: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        app = web.Application(client_max_size=64 * MIB, middlewares=[self._count])
        app.router.add_route("*", "/upload", self._upload, expect_handler=self._expect)
        app.router.add_post("/refusing", self._upload, expect_handler=self._refuse)
        for path in ("/file", "/download/file"):
            app.router.add_get(path, self._file)
        app.router.add_get("/chunked", self._chunked)
        app.router.add_get("/gzip", self._gzip)
        app.router.add_get("/events", self._events)
        app.router.add_get("/login", self._login)
        app.router.add_get("/home", self._home)
        async with serving_app(app, shutdown_timeout=0.1) as self.port:
            yield self

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.versions.append((request.version.major, request.version.minor))
        response: web.StreamResponse = await handler(request)
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        content = await request.read()
        told = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "length": request.headers.get("Content-Length"),
            "method": request.method,
        }
        return web.json_response(told, headers={"Cache-Control": STORABLE})

    async def _expect(self, request: web.Request) -> None:
        self.continued += 1
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _refuse(self, request: web.Request) -> web.Response:
        response = web.Response(status=413, text="too much")
        response.force_close()
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self.file, headers={"Cache-Control": STORABLE})

    async def _chunked(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": STORABLE})
        if request.version >= (1, 1):
            response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(FILE), 100_000):
            await response.write(FILE[start : start + 100_000])
        return response

    async def _gzip(self, request: web.Request) -> web.Response:
        fields = {"Content-Encoding": "gzip", "Cache-Control": STORABLE, "Vary": "Accept-Encoding"}
        return web.Response(body=GZIPPED, headers=fields)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await self.released.wait()
        await response.write(b"data: 2\n\n")
        return response

    async def _login(self, request: web.Request) -> web.Response:
        response = web.Response(status=302, headers={"Location": "/home"})
        response.set_cookie("session", "s1")
        response.set_cookie("theme", "t2")
        return response

    async def _home(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{request.cookies.get('session')} {request.cookies.get('theme')}")
