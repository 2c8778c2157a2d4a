"""JSON answers of the admin listener."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web


def json_answer(body: dict[str, Any], status: int = 200) -> web.Response:
    """Answer with one JSON object on one line, which suits logs and terminals and is encoded in C."""
    text = json.dumps(body, ensure_ascii=False) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")
