"""The audit against caches: what they show wrongly it finds, and what it finds they show."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from proxy.audit.evidence import Evidence
from proxy.demo.cache import InternetExplorerCache, Response
from tests.audit.truth.resources import resources
from tests.audit.truth.trial import USERS, Shown, compare, observe, request_fields
from tests.support.apps import serving_app
from tests.support.ports import free_port
from tests.support.programs import program, running

RESOURCES = list(resources())
STEPS = 9
STEP_S = 0.8


class PrivateCaches:
    """One browser for each user, and one that users share; all cache as Internet Explorer does."""

    def __init__(self) -> None:
        self._caches = {name: InternetExplorerCache() for name in (*USERS, "shared browser")}

    def show(self, shown: Shown, resource, step: int, user: str, now_s: float) -> None:
        for owner, cache in self._caches.items():
            if owner in (user, "shared browser"):
                found = cache.find_fresh(resource.path, now_s)
                if found is None:
                    status, fields, content = resource.answer(step, user, now_s)
                    found = Response(status, tuple(fields), content)
                    cache.take("GET", resource.path, request_fields(resource, user), found, now_s)
                if owner == user:
                    shown.note(f"browser of {user}", resource, step, user, found.content)
                elif found.content != resource.content(step, user):
                    shown.stale.setdefault(resource.path, set()).add(owner)


def test_app_has_routes_of_every_kind():
    assert len(RESOURCES) >= 60
    assert len({resource.path for resource in RESOURCES}) == len(RESOURCES)


def test_what_private_caches_show_wrongly_is_found():
    """The short version: without servers, in simulated time."""
    evidence, shown, browsers = Evidence(b"secret"), Shown(), PrivateCaches()
    chosen = [resource for resource in RESOURCES if not resource.path.endswith(ONLY_SHARED_CACHES_REUSE)]
    for step in range(STEPS):
        now_s = 1_800_000_000 + step * STEP_S
        for user in USERS:
            for resource in chosen:
                observe(evidence, resource, user, now_s, resource.answer(step, user, now_s))
                browsers.show(shown, resource, step, user, now_s)
    assert len(shown.stale) > 20
    compare(evidence, shown, chosen)


ONLY_SHARED_CACHES_REUSE = (
    "/shared-only",
    "/accel",
    "/surrogate",
    "/modified-now",
    "/pragma",
    "/expires-zero",
    "/accept",
)


NGINX = """
user root; daemon off; worker_processes 1; error_log {dir}/error.log; pid {dir}/pid;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  proxy_cache_path {dir}/cache keys_zone=one:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{app}; proxy_cache one; proxy_cache_valid 200 301 404 10m; }}
  }}
}}
"""
VARNISH = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{app}"; }}
sub vcl_recv {{ return (hash); }}
"""


@pytest.mark.alone
@pytest.mark.peer
async def test_what_varnish_nginx_and_browsers_show_wrongly_is_found(tmp_path):
    evidence, shown, browsers = Evidence(b"secret"), Shown(), PrivateCaches()
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(serving())
        judges = {
            "nginx": await stack.enter_async_context(nginx(tmp_path / "nginx", app.port)),
            "varnish": await stack.enter_async_context(varnish(tmp_path / "varnish", app.port)),
        }
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        begin = time.monotonic()
        for app.step in range(STEPS):
            await asyncio.sleep(max(0, begin + app.step * STEP_S - time.monotonic()))
            for user in USERS:
                for resource in RESOURCES:
                    now_s = time.time()
                    observe(evidence, resource, user, now_s, await get(session, app.port, resource, user))
                    browsers.show(shown, resource, app.step, user, now_s)
                    for name, port in judges.items():
                        *_, content = await get(session, port, resource, user)
                        shown.note(name, resource, app.step, user, content)
    assert {judge for judges in shown.leak.values() for judge in judges} == {"nginx", "varnish"}
    compare(evidence, shown, RESOURCES)


class App:
    port = 0
    step = 0


@asynccontextmanager
async def serving():
    app, by_path = App(), {resource.path: resource for resource in RESOURCES}

    async def answer(request: web.Request) -> web.Response:
        resource = by_path[request.path]
        user = next(user for user in USERS if user in request.headers["Cookie"])
        status, fields, content = resource.answer(app.step, user, time.time())
        headers = [(name.decode(), value.decode()) for name, value in fields]
        return web.Response(status=status, headers=headers, body=content)

    inner = web.Application()
    inner.router.add_get("/{path:.*}", answer)
    async with serving_app(inner) as app.port:
        yield app


async def get(session, port: int, resource, user: str):
    headers = [(name.decode(), value.decode()) for name, value in request_fields(resource, user)]
    url = f"http://127.0.0.1:{port}{resource.path}"
    async with session.get(url, headers=headers, allow_redirects=False) as response:
        return response.status, response.raw_headers, await response.read()


@asynccontextmanager
async def nginx(directory: Path, app: int):
    port = free_port()
    directory.mkdir()
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(dir=directory, port=port, app=app))
    directory.chmod(0o777)
    async with running(port, program("nginx"), "-c", str(config), "-e", str(directory / "start.log")):
        yield port


@asynccontextmanager
async def varnish(directory: Path, app: int):
    port = free_port()
    directory.mkdir()
    vcl = directory / "default.vcl"
    vcl.write_text(VARNISH.format(app=app))
    # Grace is no permission of RFC 9111: the judge goes by the rules.
    words = (
        "-F",
        "-n",
        str(directory / "n"),
        "-a",
        f"127.0.0.1:{port}",
        "-f",
        str(vcl),
        "-p",
        "default_grace=0",
    )
    async with running(port, program("varnishd"), *words, "-j", "none"):
        yield port
