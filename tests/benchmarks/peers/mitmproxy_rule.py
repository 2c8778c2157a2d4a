"""The rule as a mitmproxy addon; runs in mitmproxy's own environment, without this project's packages."""

from __future__ import annotations

from typing import Any

EXCLUDED = ("/static/", "/file/download/")


def applies(request: Any) -> bool:
    is_script = request.headers.get("x-requested-with", "").lower() == "xmlhttprequest"
    return is_script and request.method in {"GET", "HEAD"} and not request.path.startswith(EXCLUDED)


def requestheaders(flow: Any) -> None:
    flow.request.stream = True
    flow.request.headers.add("Via", "1.1 mitmproxy")
    if applies(flow.request):
        flow.request.headers.pop("If-None-Match", None)
        flow.request.headers.pop("If-Modified-Since", None)


def responseheaders(flow: Any) -> None:
    flow.response.stream = True
    flow.response.headers.add("Vary", "X-Requested-With")
    if applies(flow.request):
        fields = flow.response.headers
        fields["Cache-Control"] = "no-store, no-cache, must-revalidate, post-check=0, pre-check=0"
        fields["Pragma"] = "no-cache"
        fields["Expires"] = "Thu, 01 Dec 1994 16:00:00 GMT"
        fields["Last-Modified"] = fields.get("Date", "")
        fields.pop("ETag", None)
