"""Asks the rules, and fails safe: where deciding fails the response is protected, and the failure logged and counted."""

from __future__ import annotations

import logging

from proxy.gateway.context import Context
from proxy.message.request import RequestHead
from proxy.message.response import ResponseHead
from proxy.rules.engine.verdict import FAIL_SAFE, Resolution, Verdict
from proxy.rules.policies import STRICT, treatment

_log = logging.getLogger(__name__)


def decide(context: Context, head: RequestHead) -> Verdict:
    """Decide as far as the request can tell."""
    try:
        return context.ruleset.decide(head.method, head.target, head.values)
    except Exception:  # noqa: BLE001 - the guarantee holds even where a rule fails
        _tell(context)
        return FAIL_SAFE


def resolve(context: Context, verdict: Verdict, response: ResponseHead) -> Resolution:
    """Decide for a response."""
    try:
        return verdict.resolve(response.status, response.section.fields)
    except Exception:  # noqa: BLE001 - as in `decide`
        _tell(context)
        return Resolution(None, STRICT, treatment(STRICT, verdict.vary))


def _tell(context: Context) -> None:
    _log.exception("deciding failed; the response is protected by the strict policy")
    context.stats.decision_failures_total += 1
