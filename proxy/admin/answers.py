"""What handlers of the admin listener share: JSON answers, and the check of who asks."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web


def json_answer(body: dict[str, Any], status: int = 200) -> web.Response:
    """Answer with one JSON object on one line, which suits logs and terminals and is encoded in C."""
    text = json.dumps(body, ensure_ascii=False) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")


def is_same_origin(request: web.BaseRequest) -> bool:
    """Tell whether this comes from a page of this listener, or from no browser at all.

    Browsers send `Origin` with every POST, and no page can change it.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower()
