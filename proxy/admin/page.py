"""The page for people and the files that it loads. Nothing is inline, so its policy can forbid inline code."""

from __future__ import annotations

from importlib import resources
from typing import Final

from aiohttp import web

from proxy.admin.state import AdminState

# The icon is a data: URL, so that browsers do not request /favicon.ico.
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


async def page(_: AdminState, __: web.BaseRequest) -> web.Response:
    """Answer with the page; it fetches its data from the API."""
    response = _file("page.html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


async def asset(_: AdminState, request: web.BaseRequest) -> web.Response:
    """Answer with a file that the page loads."""
    return _file(request.path.lstrip("/"))


def _file(name: str) -> web.Response:
    data = resources.files(__package__).joinpath(name).read_bytes()
    kind = next(kind for suffix, kind in _TYPES.items() if name.endswith(suffix))
    return web.Response(body=data, content_type=kind, charset="utf-8")
