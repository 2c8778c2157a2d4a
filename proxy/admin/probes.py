"""`/livez` and `/readyz`, for orchestrators: whether to restart this process, and whether to send traffic to it."""

from __future__ import annotations

from aiohttp import web

from proxy.admin.answers import json_answer
from proxy.admin.state import AdminState, RulesStatus


async def livez(_: AdminState, __: web.BaseRequest) -> web.Response:
    """Answer 200 while the process runs. It does not ask the app: a restart would not help if that is down."""
    return web.Response(text="alive\n")


async def readyz(state: AdminState, _: web.BaseRequest) -> web.Response:
    """Answer 200 if this instance should get traffic, else 503 with reasons; notes are for the operator."""
    reasons = await state.reasons_not_ready()
    status = state.rules_status
    body = {"ready": not reasons, "reasons": reasons, "notes": _notes(status), "rules": status.digest}
    return json_answer(body, 503 if reasons else 200)


def _notes(status: RulesStatus) -> list[str]:
    """An invalid rules file is a note, not a reason: the previous rules still protect."""
    if status.last_reload_ok:
        return []
    first, *others = status.last_error.splitlines() or [""]
    more = f" (and {len(others)} more, see /api/rules)" if others else ""
    return [f"the rules file cannot be used, the rules before it are in force: {first}{more}"]
