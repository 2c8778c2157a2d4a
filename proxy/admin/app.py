"""The admin application: a table of endpoints, and what all answers have in common."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from proxy.admin import api, audit, metrics, page, probes, recent
from proxy.admin.answers import json_answer
from proxy.admin.state import AdminState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of the admin listener.

    Attributes:
        text: describes it in a 404; empty for files of the page.
        is_exclusive: answers one request at a time and refuses others, because it takes long.
        methods: all others are refused; POST is only for resetting the audit.
    """

    answer: Callable[[AdminState, web.BaseRequest], Awaitable[web.Response]]
    text: str = ""
    is_exclusive: bool = False
    methods: tuple[str, ...] = ("GET", "HEAD")


ENDPOINTS: Final = {
    "/": Endpoint(
        page.page, "a page for people: state, rules with their hits, audit, recent requests, explain"
    ),
    "/page.css": Endpoint(page.asset),
    "/page.js": Endpoint(page.asset),
    "/audit.js": Endpoint(page.asset),
    "/recent.js": Endpoint(page.asset),
    "/livez": Endpoint(probes.livez, "the process is alive; never depends on the app"),
    "/readyz": Endpoint(probes.readyz, "rules are loaded, the app is reachable and nothing is being drained"),
    "/metrics": Endpoint(metrics.answer, "for Prometheus"),
    "/api/rules": Endpoint(api.rules, "the rules in force, with the hits of each"),
    "/api/explain": Endpoint(
        api.explain,
        "which rule decides: ?method=GET&target=/path&header=Name: value&status=200"
        "&response_header=Name: value; header and response_header as often as needed; format=text for people; "
        "one request at a time",
        is_exclusive=True,
    ),
    "/api/config": Endpoint(api.config, "the settings"),
    "/api/audit": Endpoint(
        audit.report, "which responses caches may reuse, and the rule for each; takes seconds"
    ),
    "/api/audit/reset": Endpoint(audit.reset, "POST: forget what the audit has seen", methods=("POST",)),
    "/api/recent": Endpoint(
        recent.recent,
        "the last 200 exchanges with their fields before and after, recorded while somebody asks; ?after=ID",
    ),
}


class Admin:
    """Answers the requests of the admin listener, for a service."""

    def __init__(self, state: AdminState) -> None:
        self._state = state
        self._names = {"localhost", *state.settings.admin_hosts}
        self._in_use: set[str] = set()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request. Every answer says no-store, every error is JSON."""
        try:
            response = await self._answer(request)
        except Exception:  # noqa: BLE001 - nobody above can handle it, and aiohttp's own 500 would not say no-store
            _log.exception("the admin listener failed on %s", request.path)
            response = json_answer({"error": "the proxy failed; its log says how"}, 500)
        return finished(response)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if not self._is_ours(request.headers.get("Host", "")):
            text = "Host is neither an address nor localhost nor one of --admin-hosts"
            return json_answer({"error": text}, 421)
        endpoint = ENDPOINTS.get(request.path)
        if endpoint is None:
            return _refusal("Not Found", 404)
        if request.method not in endpoint.methods:
            response = _refusal("Method Not Allowed", 405)
            response.headers["Allow"] = ",".join(endpoint.methods)
            return response
        if not endpoint.is_exclusive:
            return await endpoint.answer(self._state, request)
        return await self._answer_alone(endpoint, request)

    async def _answer_alone(self, endpoint: Endpoint, request: web.BaseRequest) -> web.Response:
        if request.path in self._in_use:
            response = json_answer({"error": f"{request.path} answers one request at a time"}, 503)
            response.headers["Retry-After"] = "1"
            return response
        self._in_use.add(request.path)
        try:
            return await endpoint.answer(self._state, request)
        finally:
            self._in_use.remove(request.path)

    def _is_ours(self, host: str) -> bool:
        """Tell whether a `Host` names this listener.

        With DNS rebinding, a page of any site lets its own name resolve to this address and reads our answers. Only the
        name in `Host` shows that. An address cannot be rebound, and no page reaches a Unix socket.
        """
        admin = self._state.settings.admin
        if not host or admin is None or admin.path is not None:
            return True
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        name = name.lower().rstrip(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names or name == admin.host.lower()
        return True


def finished(response: web.Response) -> web.Response:
    """Add the fields of every answer. `Server` names neither the library nor its version."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "nocache-proxy"
    return response


def _refusal(error: str, status: int) -> web.Response:
    paths = {path: endpoint.text for path, endpoint in ENDPOINTS.items() if endpoint.text}
    return json_answer({"error": error, "paths": paths}, status)
