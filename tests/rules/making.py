"""Makes conditions in few words, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from proxy.message.request import FieldLines
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.verdict import Verdict
from proxy.rules.keys.fields import FieldKey, ScriptRequest
from proxy.rules.keys.key import Conditions, Key, RequestKey, ResponseKey
from proxy.rules.keys.methods import Methods
from proxy.rules.keys.paths import PathRegexes, Paths
from proxy.rules.keys.response import Attachment, ContentTypes, Statuses
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT


def field_key(
    name: str, globs: Sequence[str] = (), *, present: bool | None = None, by_member: bool = False
) -> FieldKey:
    return FieldKey(name, tuple(globs) if present is None else present, by_member=by_member)


def response_keys(
    statuses: Sequence[str] = (), content_types: Sequence[str] = (), *, attachment: bool | None = None
) -> tuple[ResponseKey, ...]:
    return (
        *([Statuses(tuple(statuses))] if statuses else []),
        *([ContentTypes(tuple(content_types))] if content_types else []),
        *([] if attachment is None else [Attachment(is_wanted=attachment)]),
    )


def conditions(
    *,
    methods: Iterable[str] | None = None,
    paths: Sequence[str] = (),
    path_regexes: Sequence[str] = (),
    fields: Iterable[Key] = (),
    script_request: bool | None = None,
    response: Iterable[Key] = (),
) -> Conditions:
    keys: list[Any] = [] if methods is None else [Methods(methods)]
    keys += [Paths(tuple(paths))] if paths else []
    keys += [PathRegexes(tuple(path_regexes))] if path_regexes else []
    keys += fields
    keys += [] if script_request is None else [ScriptRequest(is_wanted=script_request)]
    return Conditions([*keys, *response])


def readings_that_hold(key: RequestKey, **fields: FieldLines) -> tuple[bool, bool]:
    """Tell whether a key on fields holds in the readings `any` and `every`; `accept_charset=b"x"` is a field."""
    ruleset = Ruleset([Rule("r", STRICT, Conditions([key]))])
    values = tuple(fields.get(name.decode().replace("-", "_")) for name in ruleset.field_names)
    facts = ruleset.examine("GET", b"/", values)
    return key.holds(facts, "any"), key.holds(facts, "every")


def decide(
    ruleset: Ruleset, method: str = "GET", target: bytes = b"/", fields: dict[bytes, FieldLines] | None = None
) -> Verdict:
    """Decide for a request with these fields, by lower-case name."""
    sent = fields or {}
    return ruleset.decide(method, target, tuple(sent.get(name) for name in ruleset.field_names))
