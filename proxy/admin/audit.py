"""`/api/audit`: what caches may reuse of the app's answers, and the rule for each route."""

from __future__ import annotations

from aiohttp import web

from proxy.admin.answers import is_same_origin, json_answer
from proxy.admin.state import AdminState
from proxy.audit.report_call import ReportError

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
