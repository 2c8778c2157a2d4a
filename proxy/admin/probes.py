"""`/livez` and `/readyz`, for orchestrators: whether to restart this process, and whether to send traffic to it."""

from __future__ import annotations

from aiohttp import web

from proxy.admin.answers import json_answer
from proxy.admin.state import AdminState, RulesStatus


async def livez(_: AdminState, __: web.BaseRequest) -> web.Response:
    """Say that the process runs. Restarting it would not help an app that is down, so that is not asked here."""
    return web.Response(text="alive\n")


async def readyz(state: AdminState, _: web.BaseRequest) -> web.Response:
    """Say whether to send traffic here, why not, and what an operator should know although it is ready."""
    reasons = await state.reasons_not_ready()
    status = state.rules_status
    body = {"ready": not reasons, "reasons": reasons, "notes": _notes(status), "rules": status.digest}
    return json_answer(body, 503 if reasons else 200)


def _notes(status: RulesStatus) -> list[str]:
    """A file that cannot be used is no reason to take traffic away: the rules before it protect as they did."""
    if status.last_reload_ok:
        return []
    first, *others = status.last_error.splitlines() or [""]
    more = f" (and {len(others)} more, see /api/rules)" if others else ""
    return [f"the rules file cannot be used, the rules before it are in force: {first}{more}"]
