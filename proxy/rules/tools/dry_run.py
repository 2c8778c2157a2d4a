"""Runs the gateway's own decisions on one request and the app's response, without sockets.

The `tests:` of a rules file and `explain` both use it, so they report what the gateway really does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from proxy.message.errors import MalformedHeadError
from proxy.message.fields import HOP_BY_HOP, Field, FieldSection
from proxy.message.request import RequestHead, RequestTable, strip_conditionals
from proxy.message.response import ResponseHead, render_response
from proxy.message.status import BAD_GATEWAY
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.verdict import Resolution, Verdict
from proxy.rules.loading.cases import TrialRequest, TrialResponse
from proxy.rules.model import Policy
from proxy.rules.policies import STRICT, treatment

SOME_DATE: Final = b"Mon, 23 Nov 2026 12:00:00 GMT"
"""The time of a dry run whose dates nobody sees."""

_AUTHORITY: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


def current_date() -> bytes:
    """Return the current time as an IMF-fixdate."""
    return formatdate(usegmt=True).encode()


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome of a request and its response.

    Attributes:
        head: what the rules were asked about.
        stripped: the request fields that do not reach the app, by name as sent.
        status: what the client gets: 502 when the app's response cannot be passed on.
        fault: why not, else empty.
        fields: of the client's response, in wire order, without those of the connection.
    """

    head: RequestHead
    verdict: Verdict
    resolution: Resolution
    stripped: tuple[str, ...]
    status: int
    fault: str
    fields: tuple[Field, ...]

    @property
    def policy(self) -> Policy:
        """The policy of the client's response; the gateway's own responses are under `strict`."""
        return STRICT if self.fault else self.resolution.policy


def run_trial(
    ruleset: Ruleset, request: TrialRequest, response: TrialResponse, *, now: bytes = SOME_DATE
) -> Trial:
    """Decide for a request, then for its response, and render what the client gets.

    Args:
        now: an IMF-fixdate, for a response without `Date`.

    Raises:
        MessageError: the gateway would not forward this request.
    """
    head = RequestTable(ruleset.field_names).read(_request_bytes(request))
    verdict = ruleset.decide(head.method, head.target, head.values)
    resolution = verdict.resolve(response.status, response.fields)
    # Where only the response can tell whether a rule applies, conditions reach the app unless one does.
    is_stripped = verdict.settled is not None or resolution.policy.conditionals == "strip"
    stripped = _strip(head) if is_stripped and verdict.strips(head.method) else ()
    status, fault = response.status, ""
    fields: tuple[Field, ...] = ()
    if verdict.forbids(head.method, status):
        fault = "the app answers 304 to a request without a condition"
    else:
        try:
            fields = _render(head, response, resolution, now)
        except MalformedHeadError as error:
            fault = str(error)
    if fault:
        own = Resolution(None, STRICT, treatment(STRICT, verdict.vary))
        status, fields = BAD_GATEWAY, _render(head, TrialResponse(BAD_GATEWAY), own, now)
    return Trial(head, verdict, resolution, stripped, status, fault, fields)


def _request_bytes(request: TrialRequest) -> bytes:
    lines = [request.method.encode("latin-1", "replace") + b" " + request.target + b" HTTP/1.1"]
    if not any(name.lower() == b"host" for name, _ in request.fields):
        authority = _AUTHORITY.match(request.target)
        lines.append(b"Host: " + (authority[1] if authority else b"localhost"))
    lines += [name + b": " + value for name, value in request.fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _strip(head: RequestHead) -> tuple[str, ...]:
    before = list(head.lines)
    strip_conditionals(head.lines, head.noted)
    gone = [line for line, kept in zip(before, head.lines, strict=True) if line and not kept]
    return tuple(line.partition(b":")[0].decode("latin-1") for line in gone)


def _render(
    request: RequestHead, response: TrialResponse, resolution: Resolution, now: bytes
) -> tuple[Field, ...]:
    outgoing = render_response(
        ResponseHead(response.status, b"", 1, FieldSection(response.fields), request.method),
        resolution.treatment,
        method=request.method,
        client_minor=1,
        keep_alive=True,
        now=now,
        hides_validators=request.matches_any,
    )
    return tuple(read_fields(outgoing.data.split(b"\r\n")[1:-2]))


def read_fields(lines: Sequence[bytes]) -> list[Field]:
    """Split rendered lines into fields, those of the connection left out."""
    fields: list[Field] = []
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() not in HOP_BY_HOP:
            fields.append((name, value.strip(b" \t")))
    return fields


__all__ = ["Trial", "TrialRequest", "TrialResponse", "run_trial"]
