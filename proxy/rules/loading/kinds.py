"""The types of values in a rules file: each checks one value, and says what is allowed in place of a wrong one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from proxy.message.errors import TargetError
from proxy.message.fields import HOP_BY_HOP, is_token
from proxy.message.methods import METHODS, PATTERN
from proxy.message.target import parse_target
from proxy.rules.keys.globs import PatternError, check_regex, path_glob
from proxy.rules.loading.diagnostics import OldBoolean, Value, did_you_mean, show_text, show_value

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_PATTERN: Final = f"^{_NAME.pattern}$"
_STATUS_CLASS = re.compile(r"[1-5]xx")
_STATUS_CODE = re.compile(r"[1-5][0-9][0-9]")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z?]+(?:/[!#$%&'*+\-.^_`|~0-9a-z?]+)?")
# The gateway writes these itself: they frame the message or belong to one connection. RFC 9110 section 7.6.1.
_CONNECTION_FIELDS: Final = tuple(sorted(name.decode() for name in HOP_BY_HOP | {b"content-length"}))
_OWN_MEANS: Final = {
    "date": "the proxy adds it when the app sends none",
    "vary": "the proxy merges into it what rules read",
    "etag": "use the policy's key 'etag'",
    "last-modified": "use the policy's key 'last_modified'",
}


def wrong(text: str) -> PydanticCustomError:
    """Make the error for a value that has the right type and still cannot be used."""
    return PydanticCustomError("rules", "{text}", {"text": text})


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """Accept a list, or one member without the list: `GET` for `[GET]`.

    Attributes:
        what: names a member in messages.
        member: its type.
        or_presence: also accept `true` (present) and `false` (absent).
        or_null: also accept `null` (absent).
    """

    what: str
    member: Any
    or_presence: bool = False
    or_null: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        members = handler.generate_schema(tuple.__class_getitem__((self.member, ...)))
        return core_schema.no_info_wrap_validator_function(self._validate, members)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        array = handler(schema)
        kinds = [array["items"], array]
        kinds += [{"type": "boolean"}] if self.or_presence else []
        kinds += [{"type": "null"}] if self.or_null else []
        return {"anyOf": kinds}

    def _validate(self, value: Value, handler: Callable[[object], object]) -> object:
        if (self.or_presence and isinstance(value, bool)) or (self.or_null and value is None):
            return value
        if self.or_presence:
            _refuse_old_booleans(value if isinstance(value, list) else [value])
        if value is None or isinstance(value, (dict, bool)):
            allowed = f"{self.what}, or a list of them"
            allowed += ", true (present) or false (absent)" if self.or_presence else ""
            raise wrong(f"found {show_value(value)}, allowed: {allowed}")
        return handler(tuple(value) if isinstance(value, list) else (value,))


def _refuse_old_booleans(values: list[Value]) -> None:
    for value in values:
        if isinstance(value, OldBoolean):
            raise wrong(
                f"found {value}, allowed: {value.meaning} for {'present' if value.meaning == 'true' else 'absent'}, or "
                f"'{value}' in quotes for that text"
            )


def to_tuple(value: Value) -> object:
    """Convert a list, as YAML has it, to the tuple that the model wants."""
    return tuple(value) if isinstance(value, list) else value


def _to_text(value: Value) -> object:
    """Convert a number to its text. Nothing is lost: `007` and the like were read as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def refuse_repeated(names: Iterable[str]) -> None:
    """Refuse field names that differ in case only.

    Raises:
        PydanticCustomError: two of them do.
    """
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise wrong(f"found {name} more than once, allowed: once; upper and lower case are the same")
        seen.add(name.lower())


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        allowed = "up to 64 letters, digits, '.', '_', '-', beginning with a letter or digit"
        raise wrong(f"found {show_text(value)}, allowed: {allowed}")
    return value


def _method(value: str) -> str:
    if re.fullmatch(PATTERN, value) is None:
        hint = did_you_mean(value.upper(), METHODS)
        allowed = "" if hint else ", allowed: a method in upper case, such as GET, POST or PROPFIND"
        raise wrong(f"found {show_text(value)}{hint}{allowed}")
    return value


def _path_glob(value: str) -> str:
    if not value:
        raise wrong("found an empty text, allowed: a glob that begins with '/'")
    _refuse_line_end(value)
    if not value.startswith(("/", "**")):
        raise wrong(f"found {show_text(value)}, allowed: a glob that begins with '/'{_path_hint(value)}")
    _refuse_query(value)
    try:
        path_glob(value)
    except PatternError as error:
        raise wrong(f"bad glob {show_text(value)}: {error}") from error
    return value


def _refuse_line_end(value: str) -> None:
    if value.endswith("\n"):
        raise wrong(
            f"found a line break after {show_text(value.rstrip())}, allowed: none; a text after '|' or '>' ends with "
            "one, use '|-', '>-' or quotes"
        )


def _path_hint(value: str) -> str:
    if "://" in value:
        return "; a rule sees the path only, not scheme and host"
    bare = value.strip()
    prefix = "/**/" if bare.startswith("*") else "" if bare.startswith("/") else "/"
    return f", did you mean {show_text(prefix + bare)}?"


def _refuse_query(value: str) -> None:
    if re.search(r"\?[\w.-]+=", value) or "#" in value:
        raise wrong(f"found {show_text(value)}, allowed: a glob on the path; rules do not see the query")


def _regex(value: str) -> str:
    if not value:
        raise wrong("found an empty text, allowed: an RE2 expression for the whole path")
    _refuse_line_end(value)
    try:
        return check_regex(value)
    except PatternError as error:
        hint = ""
        if "perl operator" in str(error):
            hint = "; RE2 has no look-around, use 'unless' for exceptions"
        elif "invalid escape sequence: \\" in str(error) and str(error)[-1:].isdigit():
            hint = "; RE2 has no back-references"
        problem = str(error).removesuffix(f": {value}")
        raise wrong(f"bad regular expression {show_text(value)}: {problem}{hint}") from error


def _field_name(value: str) -> str:
    if not value.isascii() or not is_token(value.encode("ascii", "replace")):
        hint = (
            "; leave out the ':'"
            if value.endswith(":") and is_token(value[:-1].encode("ascii", "replace"))
            else ""
        )
        raise wrong(
            f"{show_text(value)} is no field name, allowed: letters, digits and !#$%&'*+-.^_`|~{hint}"
        )
    return value


def _read_field_name(value: str) -> str:
    _field_name(value)
    if "_" in value:
        hint = value.replace("_", "-")
        raise wrong(
            "the proxy drops request fields with '_' in the name, so no request has it; did you mean "
            f"{show_text(hint)}?"
        )
    if value.lower() in _CONNECTION_FIELDS:
        raise wrong(f"{value} belongs to one connection, allowed: a field that the client sends to the app")
    return value


def _set_field_name(value: str) -> str:
    _field_name(value)
    _refuse_own(value, "set")
    if value.lower() == "set-cookie":
        raise wrong("a policy cannot set Set-Cookie: it would replace the app's own cookies")
    return value


def _removed_field_name(value: str) -> str:
    suffix = value.removeprefix("*")
    if value.startswith("*") and (not suffix or "*" in suffix):
        raise wrong(
            f"found {show_text(value)}, allowed: a field name, or '*' and the end of names, such as "
            "'*-Cache-Control'"
        )
    _field_name(suffix)
    if value.startswith("*"):
        for name in (*_CONNECTION_FIELDS, *_OWN_MEANS):
            if name.endswith(suffix.lower()):
                raise wrong(f"{show_text(value)} would also remove {name}; use a longer ending")
    else:
        _refuse_own(value, "remove")
    return value


def _refuse_own(name: str, verb: str) -> None:
    lower = name.lower()
    if lower in _CONNECTION_FIELDS:
        raise wrong(f"a policy cannot {verb} {name}: it frames the message or belongs to one connection")
    if lower in _OWN_MEANS:
        raise wrong(f"a policy cannot {verb} {name}: {_OWN_MEANS[lower]}")


def _field_value(value: str) -> str:
    bad = re.search("[^\t\x20-\x7e\xa0-\xff]", value)
    if bad:
        allowed = "visible characters, spaces and tabs up to U+00FF"
        hint = (
            "; a text after '|' or '>' ends with a line break, use '|-', '>-' or quotes"
            if bad[0] == "\n" and bad.end() == len(value)
            else ""
        )
        raise wrong(
            f"found U+{ord(bad[0]):04X} in the field value {show_text(value)}, allowed: {allowed}{hint}"
        )
    if value != value.strip(" \t"):
        raise wrong(f"found white space around the field value {show_text(value)}, allowed: none")
    return value


def _parameter_name(value: str) -> str:
    if not value:
        raise wrong("found an empty text, allowed: the name of a parameter of the query")
    return _parameter_value(value)


def _parameter_value(value: str) -> str:
    _refuse_line_end(value)
    if re.search("%[0-9A-Fa-f]{2}", value):
        raise wrong(
            f"found {show_text(value)}, allowed: text as the app decodes it; write the character itself"
        )
    return value


def _set_value(value: Value) -> object:
    if isinstance(value, (list, dict)):
        raise wrong(
            f"found {show_value(value)}, allowed: one field value; write several members as one text with "
            "commas"
        )
    return _to_text(value)


def _status(value: Value) -> str:
    text = str(value) if not isinstance(value, bool) else "?"
    if _STATUS_CODE.fullmatch(text) or _STATUS_CLASS.fullmatch(text):
        return text
    hint = f", did you mean '{text.lower()}'?" if _STATUS_CLASS.fullmatch(text.lower()) else ""
    raise wrong(f"found {show_value(value)}, allowed: 100 to 599, or a class such as '3xx'{hint}")


def _content_type(value: str) -> str:
    if ";" in value:
        raise wrong(
            f"found {show_text(value)}, allowed: a media type without parameters, such as 'text/html'"
        )
    lower = value.lower()
    if not _MEDIA_TYPE.fullmatch(lower) or not ("/" in lower or "*" in lower):
        raise wrong(
            f"found {show_text(value)}, allowed: a media type or a glob on it, such as 'application/json' or "
            "'image/*'"
        )
    return lower


def _request_path(value: str) -> str:
    if "?" in value:
        raise wrong(f"found {show_text(value)}, allowed: a path; use 'target' for a path with a query")
    return _request_target(value)


def _request_target(value: str) -> str:
    try:
        parse_target("OPTIONS", value.encode())
    except TargetError as error:
        raise wrong(
            f"found {show_text(value)}, allowed: a path that begins with '/', as the client sends it; {error}"
        ) from error
    return value


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": _NAME_PATTERN})]
Method = Annotated[
    str,
    AfterValidator(_method),
    Field(json_schema_extra={"anyOf": [{"enum": sorted(METHODS)}, {"pattern": f"^{PATTERN}$"}]}),
]
PathGlob = Annotated[str, AfterValidator(_path_glob), Field(json_schema_extra={"pattern": r"^(/|\*\*)"})]
Regex = Annotated[str, AfterValidator(_regex)]
FieldValue = Annotated[
    str,
    BeforeValidator(_to_text),
    AfterValidator(_field_value),
    WithJsonSchema({"type": ["string", "integer"]}),
]
SetValue = Annotated[
    str,
    BeforeValidator(_set_value),
    AfterValidator(_field_value),
    WithJsonSchema({"type": ["string", "integer"]}),
]
Status = Annotated[
    str,
    BeforeValidator(_status),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": "^[1-5](xx|[0-9]{2})$"},
            ]
        }
    ),
]
ContentType = Annotated[str, AfterValidator(_content_type)]
Methods = Annotated[tuple[str, ...], OneOrMany("a method", Method)]
Paths = Annotated[tuple[str, ...], OneOrMany("a glob", PathGlob)]
Regexes = Annotated[tuple[str, ...], OneOrMany("a regular expression", Regex)]
Presence = tuple[str, ...] | bool
"""Values, any of which may match, or whether the field is there at all."""
Values = Annotated[Presence, OneOrMany("a glob", FieldValue, or_presence=True)]
ParameterName = Annotated[str, AfterValidator(_parameter_name)]
ParameterValue = Annotated[str, BeforeValidator(_to_text), AfterValidator(_parameter_value)]
ParameterValues = Annotated[Presence, OneOrMany("a glob", ParameterValue, or_presence=True)]
XRequestedWith = Annotated[tuple[str, ...] | bool | None, OneOrMany("a value", FieldValue, or_presence=True)]
Statuses = Annotated[tuple[str, ...], OneOrMany("a status", Status)]
ContentTypes = Annotated[tuple[str, ...], OneOrMany("a media type", ContentType)]
ReadFieldName = Annotated[str, AfterValidator(_read_field_name)]
AnyFieldName = Annotated[str, AfterValidator(_field_name)]
SetFieldName = Annotated[str, AfterValidator(_set_field_name)]
RemovedFieldName = Annotated[str, AfterValidator(_removed_field_name)]
RemovedFields = Annotated[tuple[str, ...], OneOrMany("a field name", RemovedFieldName)]
Lines = Annotated[tuple[str, ...], OneOrMany("a field value", FieldValue)]
ExpectedLines = Annotated[
    Presence | None, OneOrMany("a field value", FieldValue, or_presence=True, or_null=True)
]
NameOrNull = Annotated[str | None, WithJsonSchema({"type": ["string", "null"]})]
RequestPath = Annotated[str, AfterValidator(_request_path)]
RequestTarget = Annotated[str, AfterValidator(_request_target)]
