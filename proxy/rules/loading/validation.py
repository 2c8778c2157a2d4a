"""Checks a document against the schema, and turns pydantic's errors into mistakes: place, found, allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy.rules.loading import schema
from proxy.rules.loading.diagnostics import Mistake, Path, Value, did_you_mean, nearest, show_text, show_value
from proxy.rules.loading.document import Document

_MODELS: Final[dict[tuple[str, ...], type[BaseModel]]] = {
    (): schema.FileModel,
    ("rules", "*"): schema.RuleModel,
    ("rules", "*", "match"): schema.ConditionsModel,
    ("rules", "*", "unless"): schema.ConditionsModel,
    ("rules", "*", "match", "response"): schema.ResponseConditionsModel,
    ("rules", "*", "unless", "response"): schema.ResponseConditionsModel,
    ("policies", "*"): schema.PolicyModel,
    ("tests", "*"): schema.CaseModel,
    ("tests", "*", "request"): schema.TestRequestModel,
    ("tests", "*", "response"): schema.TestResponseModel,
    ("tests", "*", "expect"): schema.ExpectationModel,
}
# Words that other proxies use, or that people guess, and that no spelling check connects with ours.
_ALIASES: Final = {
    "ajax": "script_request",
    "xhr": "x_requested_with",
    "action": "policy",
    "description": "because",
    "reason": "because",
    "comment": "because",
    "id": "name",
    "when": "match",
    "if": "match",
    "except": "unless",
    "not": "unless",
    "url": "paths",
    "urls": "paths",
    "uri": "paths",
    "location": "paths",
    "regex": "path_regexes",
    "verb": "methods",
    "fields": "headers",
    "code": "status",
    "mime_types": "content_types",
    "media_types": "content_types",
    "inherits": "extends",
    "base": "extends",
    "delete": "remove",
    "unset": "remove",
    "cases": "tests",
    "parameters": "query",
    "params": "query",
    "args": "query",
}
_NULL_MEANS_SOMETHING: Final = re.compile(r"tests/\d+/expect/(?:rule|observed|headers/[^/]*)")


def validate(document: Document, tree: Value) -> tuple[schema.FileModel | None, list[Mistake]]:
    """Check a document's tree against the schema.

    Returns:
        The model, `None` when there are mistakes; and the mistakes.
    """
    nulls = _nulls(document, tree)
    try:
        model = schema.FileModel.model_validate(tree)
    except ValidationError as error:
        return None, [*nulls, *_mistakes(document, error, {mistake.path for mistake in nulls})]
    return (None if nulls else model), nulls


def _nulls(document: Document, tree: Value) -> list[Mistake]:
    """Refuse keys without a value: an unfinished line, or a list whose members are comments, must not count as absent."""
    return [
        document.mistake(path, f"found nothing, allowed: {_allowed_instead(path)}")
        for path in _null_paths(tree, ())
        if not _NULL_MEANS_SOMETHING.fullmatch("/".join(map(str, path)))
    ]


def _null_paths(tree: Value, path: Path) -> Iterator[Path]:
    if tree is None and path:
        yield path
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, member in members:
        if path or not str(step).startswith("x-"):
            yield from _null_paths(member, (*path, step))


def _allowed_instead(path: Path) -> str:
    match path:
        case ("rules",):
            return "a list of rules; [] for none"
        case ("policies", _, "set", _):
            return "a field value; to take a field away, list it under 'remove'"
        case ("policies", _):
            return f"{_mapping(path)}; {{}} to extend strict"
        case (*_, int()):
            return "a value; delete the '-'"
        case _:
            return "a value; leave the key out"


def _mistakes(document: Document, error: ValidationError, known: set[str]) -> Iterator[Mistake]:
    errors = error.errors(include_url=False)
    mistyped = {_intended(detail["loc"]) for detail in errors if detail["type"] == "extra_forbidden"}
    for detail in errors:
        mistake = _mistake(document, detail)
        is_mistyped = detail["type"] == "missing" and detail["loc"] in mistyped
        if mistake.path not in known and not is_mistyped:
            yield mistake


def _mistake(document: Document, error: ErrorDetails) -> Mistake:
    path: Path = error["loc"]
    is_key = bool(path) and path[-1] == "[key]"
    path = path[:-1] if is_key else path
    kind = error["type"]
    if kind == "missing":
        return document.mistake(path[:-1], f"the key {show_text(str(path[-1]))} is missing")
    if kind == "extra_forbidden":
        return document.mistake(path, _unknown_key(path), key=True)
    return document.mistake(document.reach(path), _describe(kind, path, error), key=is_key)


def _describe(kind: str, path: Path, error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    found = show_value(error["input"])
    if kind == "rules":
        return str(context["text"])
    if kind == "string_type" and isinstance(error["input"], (list, dict)):
        return f"found {found}, allowed: one text"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        hint = did_you_mean(error["input"], choices) if isinstance(error["input"], str) else ""
        allowed = f", allowed: {_join(choices) or context['expected']}"
        is_quoted = str(error["input"]) == context["expected"]
        return f"found {found}{hint or allowed}{' without quotes' if is_quoted else ''}"
    describe = _KINDS.get(kind)
    if describe is None:
        return f"found {found}, {error['msg'][0].lower()}{error['msg'][1:]}"
    return f"found {found}, allowed: {describe(path)}"


def _mapping(path: Path) -> str:
    model = _model_at(path)
    return (
        f"a mapping with the keys {_join(list(model.model_fields))}"
        if model
        else "a mapping of names to values"
    )


def _list(path: Path) -> str:
    return f"a list of {path[-1]}" if path and path[-1] in ("rules", "tests") else "a list"


_KINDS: Final[dict[str, Callable[[Path], str]]] = {
    "string_type": lambda _: "text; put it in quotes if it is meant as text",
    "bool_type": lambda _: "true or false",
    "int_type": lambda _: "a number",
    "tuple_type": _list,
    "list_type": _list,
    "dict_type": _mapping,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "greater_than_equal": lambda _: "200 to 599, a final status",
    "less_than_equal": lambda _: "200 to 599, a final status",
}


def _intended(path: Path) -> Path | None:
    """Return the path of the known key that an unknown one resembles."""
    model = _model_at(path[:-1])
    near = nearest(str(path[-1]), model.model_fields) if model else None
    return None if near is None else (*path[:-1], near)


def _unknown_key(path: Path) -> str:
    model = _model_at(path[:-1])
    key = str(path[-1])
    own = list(model.model_fields) if model else []
    if key.strip() != key or "\xa0" in key:
        return f"unknown key {show_text(key)}: there is an invisible space in it"
    alias = _ALIASES.get(key.lower())
    near = nearest(key, own) or (alias if alias in own else None)
    if near is not None:
        return f"unknown key, did you mean {show_text(near)}?"
    return f"unknown key, {_belongs_elsewhere(key, path, alias) or f'allowed: {_join(own)}'}"


def _belongs_elsewhere(key: str, path: Path, alias: str | None) -> str:
    """Say where a key is allowed that is known, but not here. Mostly its indentation is wrong."""
    here = _pattern(path[:-1])
    if here[:1] == ("rules",) and key in schema.PolicyModel.model_fields:
        return "it belongs to a policy of your own, under 'policies'"
    for pattern, model in _MODELS.items():
        if pattern[:1] != here[:1] or pattern == here:
            continue
        name = nearest(key, model.model_fields) or alias
        if name is None or name not in model.model_fields:
            continue
        name_hint = "" if name == key else f" as {show_text(name)}"
        if pattern[: len(here)] == here and pattern[len(here)] != "*":
            return f"it belongs under {show_text(pattern[len(here)])}{name_hint}"
        if here[: len(pattern)] == pattern:
            beside = here[len(pattern)]
            return f"it belongs beside {show_text(beside)}, not under it{name_hint}" if beside != "*" else ""
    return ""


def _model_at(path: Path) -> type[BaseModel] | None:
    return _MODELS.get(_pattern(path))


def _pattern(path: Path) -> tuple[str, ...]:
    """Replace list indices and the names of policies by `*`."""
    return tuple(
        "*" if isinstance(step, int) or (index == 1 and path[0] == "policies") else step
        for index, step in enumerate(path)
    )


def _join(names: list[str]) -> str:
    return ", ".join(names)
