"""`/api/audit`: what caches may reuse of the app's answers, and the rule for each route."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from proxy.admin.answers import json_answer
from proxy.admin.state import AdminState
from proxy.audit.reporting import ReportError

_OFF = {"error": "the audit is off: serve --audit on"}


async def report(state: AdminState, _: web.BaseRequest) -> web.Response:
    """Answer with the report; a process of its own makes it."""
    if state.settings.audit == "off":
        return json_answer(_OFF, 404)
    try:
        body = await state.audit_report()
    except ReportError as error:
        return json_answer({"error": str(error)}, 503)
    return web.Response(body=body + b"\n", content_type="application/json", charset="utf-8")


async def reset(state: AdminState, request: web.BaseRequest) -> web.Response:
    """Forget what was seen. Only pages of this listener may ask for that, and programs that are no browser."""
    if state.settings.audit == "off":
        return json_answer(_OFF, 404)
    if not is_same_origin(request):
        return json_answer({"error": "only a page of this listener may ask for this"}, 403)
    if request.can_read_body:
        return json_answer({"error": "this request has no content"}, 400)
    state.reset_audit()
    return json_answer({"reset": True})


def is_same_origin(request: web.BaseRequest) -> bool:
    """Tell whether a browser, if it is one, sends this for a page of this listener.

    Browsers send `Origin` with every POST, and none lets a page choose it.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower()
