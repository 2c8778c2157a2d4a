"""The admin application: its routes, and what they answer."""

from __future__ import annotations

import json
import time
from collections import Counter
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy import __version__
from proxy.admin import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.admin.state import AdminState

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATE: Final[web.AppKey[AdminState]] = web.AppKey("state")
_PATHS: Final = {
    "/livez": "the process is alive; never depends on the app",
    "/readyz": "rules are loaded, the app is reachable and nothing is being drained",
    "/metrics": "Prometheus",
    "/api/rules": "the rules in force, with the hits of each",
    "/api/explain": "which rule decides: ?method=GET&target=/path&header=Name: value&status=200&response_header=...",
    "/api/config": "the settings",
}


def build_app(state: AdminState) -> web.Application:
    """Make the application for a service."""
    app = web.Application(middlewares=[_answer])
    app[_STATE] = state
    app.add_routes(
        [
            web.get("/", _page),
            web.get("/page.css", _asset),
            web.get("/page.js", _asset),
            web.get("/livez", _livez),
            web.get("/readyz", _readyz),
            web.get("/metrics", _metrics),
            web.get("/api/rules", _rules),
            web.get("/api/explain", _explain),
            web.get("/api/config", _config),
        ]
    )
    return app


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell every answer not to be stored, and errors in JSON."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _json({"error": error.reason, "paths": _PATHS}, status=error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")


async def _readyz(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    reasons = await state.reasons_not_ready()
    status = state.rules_status
    notes = (
        []
        if status.last_reload_ok
        else [f"the rules file has mistakes, older rules are in force: {status.last_error}"]
    )
    body = {"ready": not reasons, "reasons": reasons, "notes": notes, "rules": status.digest}
    return _json(body, status=503 if reasons else 200)


async def _metrics(request: web.Request) -> web.Response:
    body = await metrics.render(request.app[_STATE])
    return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})


async def _rules(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    snapshot = await state.snapshot()
    hits: Counter[str] = Counter()
    for key, number in snapshot["requests"].items():
        hits[key.split("\t", 1)[0]] += number
    status = state.rules_status
    return _json(
        {
            "source": status.source,
            "digest": status.digest,
            "loaded_at_s": status.loaded_at_s,
            "last_reload_ok": status.last_reload_ok,
            "last_error": status.last_error or None,
            "rules": [
                {
                    "name": rule.name,
                    "because": rule.because or None,
                    "policy": rule.policy.name,
                    "mode": rule.mode,
                    "hits": snapshot["observed"].get(rule.name, 0)
                    if rule.mode == "observe"
                    else hits[rule.name],
                    "fields_changed": snapshot["fields_changed"].get(rule.name, 0),
                    "conditionals_stripped": snapshot["conditionals_stripped"].get(rule.name, 0),
                }
                for rule in state.rules_file.rules
            ],
            "unmatched": hits[""],
        }
    )


async def _explain(request: web.Request) -> web.Response:
    from proxy.rules import commands, explain_text, trial  # noqa: PLC0415 - only for those who ask
    from proxy.rules.explain import explain  # noqa: PLC0415

    query = request.query
    try:
        fields = tuple(commands.parse_field(text) for text in query.getall("header", []))
        response_fields = tuple(commands.parse_field(text) for text in query.getall("response_header", []))
        status = int(query.get("status", "200"))
        if not 100 <= status <= 599:  # noqa: PLR2004 - RFC 9110 section 15
            raise ValueError(f"found status {status}, allowed: 100 to 599")
        if not query.get("target"):
            raise ValueError("no target; it is the request target as a client sends it, such as /path?query")
        target = query["target"].encode("utf-8", "surrogateescape")
        explanation = explain(
            request.app[_STATE].rules_file.ruleset,
            trial.TrialRequest(query.get("method", "GET"), target, fields),
            trial.TrialResponse(status, response_fields),
            now=trial.SOME_DATE,
        )
    except trial.RequestRefusedError as error:
        return _json({"refused": {"status": error.status, "reason": error.reason}})
    except ValueError as error:
        return _json({"error": str(error)}, status=400)
    if query.get("format") == "text":
        return web.Response(text=explain_text.to_text(explanation) + "\n")
    return _json(explain_text.to_json(explanation))


async def _config(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    settings = state.settings
    values = {name: _plain(getattr(settings, name)) for name in settings.__slots__}
    return _json(
        {"version": __version__, "uptime_s": round(time.time() - state.started_at_s, 1), "settings": values}
    )


async def _page(_: web.Request) -> web.Response:
    return web.Response(
        body=_read("page.html"),
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
            "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        },
    )


async def _asset(request: web.Request) -> web.Response:
    name = request.path.lstrip("/")
    return web.Response(
        body=_read(name),
        content_type="text/css" if name.endswith(".css") else "text/javascript",
        charset="utf-8",
    )


def _read(name: str) -> bytes:
    return resources.files("proxy.admin").joinpath(name).read_bytes()


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        text=json.dumps(body, indent=2, ensure_ascii=False) + "\n",
        status=status,
        content_type="application/json",
    )


def _plain(value: object) -> object:
    if isinstance(value, int | float | str | None):
        return value
    if isinstance(value, tuple):
        return [str(member) for member in value]
    return str(value)
