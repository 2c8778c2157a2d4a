"""The admin application: its routes, and what all its answers have in common."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from proxy.admin import api, metrics, page, probes
from proxy.admin.answers import json_answer
from proxy.admin.state import STATE, AdminState

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)

_PATHS: Final = {
    "/": "a page for people: state, rules with their hits, explain",
    "/livez": "the process is alive; never depends on the app",
    "/readyz": "rules are loaded, the app is reachable and nothing is being drained",
    "/metrics": "for Prometheus",
    "/api/rules": "the rules in force, with the hits of each",
    "/api/explain": "which rule decides: ?method=GET&target=/path&header=Name: value&status=200"
    "&response_header=Name: value; header and response_header as often as needed; format=text for people",
    "/api/config": "the settings",
}


def build_app(state: AdminState) -> web.Application:
    """Make the application for a service. It answers GET and HEAD, and changes nothing."""
    app = web.Application(middlewares=[_answer])
    app[STATE] = state
    app.add_routes(
        [
            web.get("/", page.page),
            web.get("/page.css", page.asset),
            web.get("/page.js", page.asset),
            web.get("/livez", probes.livez),
            web.get("/readyz", probes.readyz),
            web.get("/metrics", _metrics),
            web.get("/api/rules", api.rules),
            web.get("/api/explain", api.Explainer().answer),
            web.get("/api/config", api.config),
        ]
    )
    return app


@web.middleware
async def _answer(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Tell every answer not to be stored, and every error in JSON."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = json_answer({"error": error.reason, "paths": _PATHS}, error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except Exception:  # noqa: BLE001 - the last one to tell; aiohttp's own 500 would not say no-store
        _log.exception("the admin listener failed on %s", request.path)
        response = json_answer({"error": "the proxy failed; its log says how"}, 500)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _metrics(request: web.Request) -> web.Response:
    body = await metrics.render(request.app[STATE])
    return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})
