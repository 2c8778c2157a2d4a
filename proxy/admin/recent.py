"""`/api/recent`: the latest exchanges, with their fields before and after. They are kept only while somebody asks."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from proxy.admin.answers import is_same_origin, json_answer
from proxy.admin.state import AdminState

_MAX_DIGITS: Final = 18


async def recent(state: AdminState, request: web.BaseRequest) -> web.Response:
    """Answer with the exchanges whose id is above `after`. A request starts the recording, so pages of other sites are refused."""
    if not is_same_origin(request):
        return json_answer({"error": "only a page of this listener may ask for this"}, 403)
    after = request.query.get("after", "0")
    if set(request.query) - {"after"} or not (
        after.isascii() and after.isdigit() and len(after) <= _MAX_DIGITS
    ):
        return json_answer({"error": "allowed: ?after=ID, the id of the last exchange that is known"}, 400)
    body = await state.recent(int(after))
    return web.Response(body=body + b"\n", content_type="application/json", charset="utf-8")
