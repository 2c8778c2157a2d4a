"""What the audit says of the demo's view: of the app alone from what it gave, behind the proxy from the proxy itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import aiohttp

from proxy.audit.evidence import Evidence
from proxy.audit.observation import Observation, digest_content
from proxy.audit.report import report_on, to_json
from proxy.demo.browser import XHR_FIELDS
from proxy.demo.cache import Response

_PAUSE_S: Final = 0.1
_LIMIT_S: Final = 30.0


def of_app(view: str, given: Iterable[tuple[float, Response]]) -> dict[str, Any]:
    """Judge what the app itself gave, with the time of each answer; return the view's row of the report."""
    evidence = Evidence(b"nobody else's")
    for at_s, response in given:
        content = digest_content(response.content)
        fields = response.fields
        evidence.add(
            Observation(at_s, "GET", b"app", view.encode(), response.status, XHR_FIELDS, fields, content)
        )
    return _row(to_json(report_on(evidence)), view)


async def of_proxy(view: str, admin: str) -> dict[str, Any]:
    """Ask a running proxy for the view's row of its report, once it has looked at what passed.

    Args:
        admin: the admin listener, as `http://127.0.0.1:9901`.

    Raises:
        aiohttp.ClientError, TimeoutError: there is no such row.
    """
    async with asyncio.timeout(_LIMIT_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{admin}/api/audit") as answer:
                found = _row(await answer.json(), view)
            if found:
                return found
            await asyncio.sleep(_PAUSE_S)


def _row(report: dict[str, Any], view: str) -> dict[str, Any]:
    return next((route for route in report["routes"] if route["route"] == view), {})
