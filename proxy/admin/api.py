"""`/api/`: the rules in force, why one of them decides, and the settings, as JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy import __version__
from proxy.admin.answers import json_answer
from proxy.admin.slices import in_slices
from proxy.admin.state import AdminState
from proxy.message.errors import MessageError
from proxy.message.status import FINAL

if TYPE_CHECKING:
    from multidict import MultiMapping

    from proxy.rules.loading.loader import RulesFile
    from proxy.rules.model import Rule
    from proxy.rules.tools.dry_run import TrialRequest, TrialResponse
    from proxy.stats import Snapshot

_PARAMETERS: Final = ("method", "target", "header", "status", "response_header", "format")
# Bounds on a query, so that nobody can delay the data path.
_MAX_TEXT: Final = 1024
_MAX_FIELDS: Final = 128
_TO_EXPLAIN: Final = (  # loaded only for those who ask
    *(f"proxy.rules.tools.{name}" for name in ("dry_run", "explain", "explain_text", "commands")),
    *("proxy.audit.assess", "proxy.audit.explained"),
)


async def rules(state: AdminState, _: web.BaseRequest) -> web.Response:
    """Return the rules in force, in order, with their counters."""
    rules_file, status = state.rules_file, state.rules_status
    snapshot = await state.snapshot()
    hits = await _hits(snapshot)
    body = {
        "source": status.source,
        "digest": status.digest,
        "loaded_at_s": status.loaded_at_s,
        "last_reload_ok": status.last_reload_ok,
        "last_error": status.last_error or None,
        "rules": [row async for some in in_slices(rules_file.rules) for row in _rows(some, snapshot, hits)],
        "unmatched": hits[""],
    }
    return json_answer(body)


async def explain(state: AdminState, request: web.BaseRequest) -> web.Response:
    """Explain what the gateway would do with the request and the response that the query describes.

    Works in slices, because 1,000 rules take a second.
    """
    return await _explain(state.rules_file, request.query)


async def config(state: AdminState, _: web.BaseRequest) -> web.Response:
    """Return the settings. They contain no secrets: an upstream cannot have credentials."""
    settings = {field.name: _plain(getattr(state.settings, field.name)) for field in fields(state.settings)}
    return json_answer(
        {
            "version": __version__,
            "started_at_s": state.started_at_s,
            "uptime_s": round(time.time() - state.started_at_s, 1),
            "workers_running": len(state.pids()),
            "settings": settings,
        }
    )


async def _hits(snapshot: Snapshot) -> Counter[str]:
    hits: Counter[str] = Counter()
    async for some in in_slices(snapshot["requests"].items()):
        for (rule, _, _), number in some:
            hits[rule] += number
    return hits


def _rows(rules: list[Rule], snapshot: Snapshot, hits: Counter[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": rule.name,
            "because": rule.because or None,
            "policy": rule.policy.name,
            "mode": rule.mode,
            "hits": snapshot["observed"].get(rule.name, 0) if rule.mode == "observe" else hits[rule.name],
            "fields_changed": snapshot["fields_changed"].get(rule.name, 0),
            "conditionals_stripped": snapshot["conditionals_stripped"].get(rule.name, 0),
        }
        for rule in rules
    ]


async def _explain(rules_file: RulesFile, query: MultiMapping[str]) -> web.Response:
    async for (name,) in in_slices(_TO_EXPLAIN, 1):
        import_module(name)  # the first time, each takes some ms
    from proxy.audit.explained import caches_of
    from proxy.rules.tools import dry_run, explain_text
    from proxy.rules.tools.explain import begin

    def place_of(index: int) -> str:
        return f"{rules_file.source}:{rules_file.document.place_of(('rules', index))[0]}"

    try:
        explanation, reports = begin(rules_file.ruleset, *_trial(query), now=dry_run.current_date())
    except MessageError as error:
        return json_answer({"refused": {"status": error.status, "reason": str(error)}})
    except ValueError as error:
        return json_answer({"error": str(error)}, 400)
    caches = caches_of(explanation)
    explained = [report async for some in in_slices(reports, 1) for report in some]
    if query.get("format") == "text":
        lines = explain_text.lines(replace(explanation, rules=tuple(explained)), place_of, caches)
        return web.Response(text="".join([f"{line}\n" async for some in in_slices(lines) for line in some]))
    body = explain_text.to_json(explanation, place_of, caches)
    rows = (explain_text.rule_to_json(report, place_of) for report in explained)
    body["rules"] = [row async for some in in_slices(rows) for row in some]
    return json_answer(body)


def _trial(query: MultiMapping[str]) -> tuple[TrialRequest, TrialResponse]:
    """Read the query.

    Raises:
        ValueError: it describes no request and response; the text says what was found and what is allowed.
    """
    from proxy.rules.tools.commands import parse_field
    from proxy.rules.tools.dry_run import TrialRequest, TrialResponse

    if unknown := [name for name in query if name not in _PARAMETERS]:
        raise ValueError(f"found parameter {unknown[0]}, allowed: {', '.join(_PARAMETERS)}")
    target, status = query.get("target", ""), query.get("status", "200")
    if not target:
        raise ValueError("no target; it is the request target as a client sends it, such as /path?query")
    request_fields, response_fields = query.getall("header", []), query.getall("response_header", [])
    if len(target) > _MAX_TEXT or any(len(text) > _MAX_TEXT for text in (*request_fields, *response_fields)):
        raise ValueError(f"found a target or field of more than {_MAX_TEXT} characters")
    if len(request_fields) + len(response_fields) > _MAX_FIELDS:
        raise ValueError(f"found more than {_MAX_FIELDS} fields")
    if not (status.isascii() and status.isdigit() and int(status) in FINAL):
        raise ValueError(f"found status {json.dumps(status)}, allowed: 200 to 599")
    return (
        TrialRequest(
            query.get("method", "GET"),
            target.encode("utf-8", "surrogateescape"),
            tuple(parse_field(text) for text in request_fields),
        ),
        TrialResponse(int(status), tuple(parse_field(text) for text in response_fields)),
    )


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [str(member) for member in value]
    if isinstance(value, int | float | str | None) and not isinstance(value, Path):
        return value
    return str(value)
