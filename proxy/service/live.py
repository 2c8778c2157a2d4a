"""Fetch the head of the app's response for `explain --live`, without its content."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proxy.message.errors import MessageError
from proxy.message.fields import Field
from proxy.rules.loading import loader
from proxy.rules.loading.diagnostics import RulesError
from proxy.rules.tools import dry_run
from proxy.service.healthcheck import UnixConnection, reason_of
from proxy.settings import Upstream

_TIMEOUT_S: Final = 10.0


class LiveError(Exception):
    """The app did not answer; the text says why."""


def ask(
    upstream: Upstream, rules: Path, method: str, target: str, fields: Sequence[Field]
) -> tuple[int, list[Field]] | None:
    """Ask the app as the gateway would.

    Returns:
        The status and fields of its response; `None` if the gateway would not ask it.

    Raises:
        LiveError: the app does not answer.
    """
    forwarded = forwarded_fields(rules, method, target, fields)
    return None if forwarded is None else fetch_head(upstream, method, target, forwarded)


def forwarded_fields(rules: Path, method: str, target: str, fields: Sequence[Field]) -> list[Field] | None:
    """Return the request fields that would reach the app, without the conditionals that the rules strip.

    Returns:
        `None` when nothing would: the rules cannot be used, or the request is refused.
    """
    request = dry_run.TrialRequest(method, target.encode("utf-8", "surrogateescape"), tuple(fields))
    try:
        outcome = dry_run.run_trial(loader.load(rules).ruleset, request, dry_run.TrialResponse())
    except (RulesError, MessageError):
        return None
    stripped = {name.lower().encode() for name in outcome.stripped}
    return [field for field in fields if field[0].lower() not in stripped]


def fetch_head(
    upstream: Upstream, method: str, target: str, fields: Sequence[Field]
) -> tuple[int, list[Field]]:
    """Send one request to the app and return the status and fields of its response.

    Args:
        target: the request target as a client sends it.

    Raises:
        LiveError: the app does not answer.
    """
    connection = _connection(upstream)
    has_host = any(name.lower() == b"host" for name, _ in fields)
    try:
        connection.putrequest(method, target, skip_host=has_host, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        got = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.getheaders()]
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LiveError(f"{upstream}: {reason_of(error)}") from error
    finally:
        connection.close()
    return response.status, got


def _connection(upstream: Upstream) -> http.client.HTTPConnection:
    if upstream.path is not None:
        return UnixConnection(upstream.path, _TIMEOUT_S)
    connect = http.client.HTTPSConnection if upstream.scheme == "https" else http.client.HTTPConnection
    return connect(upstream.host, upstream.port, timeout=_TIMEOUT_S)
