"""The gateway's own responses: every one carries the fields of the `strict` policy, whoever failed.

They are not the app's, and no cache may keep them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from proxy.gateway.failures import Failure
from proxy.message.field_index import render_lines
from proxy.message.fields import FieldSection
from proxy.message.rewrite import Treatment
from proxy.rules.policies import STRICT, treatment

_STRICT: Final = treatment(STRICT)
# The words of RFC 9110; `http.HTTPStatus` has older ones before Python 3.13.
_RENAMED: Final = {413: "Content Too Large", 414: "URI Too Long"}


def render_failure(
    failure: Failure,
    *,
    method: str,
    client_minor: int,
    keep_alive: bool,
    vary: Iterable[str],
    date: bytes,
    as_json: bool = False,
) -> tuple[bytes, bytes]:
    """Render the answer to a request that failed: its head, and one line of content, which is empty for HEAD.

    Args:
        method: of the request, as far as it could be read.
        client_minor: 0 for an HTTP/1.0 client.
        keep_alive: the client's connection may serve another request.
        vary: names of the request fields that decide at this target.
        date: an IMF-fixdate.
        as_json: the content is an object with the members of RFC 9457 instead of text.
    """
    phrase = _RENAMED.get(failure.status) or HTTPStatus(failure.status).phrase
    if as_json:
        media_type = b"application/json"
        problem = {"status": failure.status, "title": phrase, "detail": failure.text}
        content = json.dumps(problem).encode() + b"\n"
    else:
        media_type = b"text/plain; charset=utf-8"
        content = f"{failure.status} {phrase}: {failure.text}\n".encode()
    names = tuple(vary)
    fields = [
        (b"Content-Type", media_type),
        (b"Content-Length", b"%d" % len(content)),
        (b"Date", date),
    ]
    if failure.proxy_status:
        fields.append((b"Proxy-Status", f"nocache-proxy; error={failure.proxy_status}".encode()))
    strict: Treatment = treatment(STRICT, names) if names else _STRICT
    lines, noted, _ = strict.walk(FieldSection(fields))
    strict.apply(lines, noted, method, failure.status, date)
    if not keep_alive:
        lines.append(b"Connection: close")
    elif client_minor == 0:
        lines.append(b"Connection: keep-alive")
    head = render_lines(b"HTTP/1.1 %d %b" % (failure.status, phrase.encode()), lines)
    return head, b"" if method == "HEAD" else content
