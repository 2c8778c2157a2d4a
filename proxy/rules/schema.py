"""The shape of a rules file: each key with what it means and what it allows; the JSON Schema comes from here.

What one value can get wrong is checked here; what takes two places of the file to see (names that are
used twice or never defined) is checked in `references`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from proxy.message.fields import is_token
from proxy.message.request import METHODS
from proxy.message.target import TargetError, parse_target
from proxy.rules.globs import PatternError, check_regex, path_glob
from proxy.rules.mistakes import did_you_mean, show_text, show_value
from proxy.rules.model import ConditionalsMode, ETagMode, LastModifiedMode, Mode

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_PATTERN: Final = f"^{_NAME.pattern}$"
_STATUS_CLASS = re.compile(r"[1-5]xx")
_STATUS_CODE = re.compile(r"[1-5][0-9][0-9]")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z?]+(?:/[!#$%&'*+\-.^_`|~0-9a-z?]+)?")
# What frames a message or belongs to one connection is the gateway's own, RFC 9110 section 7.6.1.
_CONNECTION_FIELDS: Final = (
    "connection keep-alive proxy-connection te trailer transfer-encoding upgrade content-length".split()
)
_OWN_MEANS: Final = {
    "date": "the gateway adds it when the app sends none",
    "vary": "the gateway merges into it what rules read",
    "etag": "use the policy's key 'etag'",
    "last-modified": "use the policy's key 'last_modified'",
}


def wrong(text: str) -> PydanticCustomError:
    """Make the error for a value that has the right type and still cannot be used."""
    return PydanticCustomError("rules", "{text}", {"text": text})


@dataclass(frozen=True, slots=True)
class _OneOrMany:
    """Takes `GET` for `[GET]`, and where asked to, `true` and `false` (present, absent) and `null` (absent)."""

    what: str
    member: Any
    or_presence: bool = False
    or_null: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401, PLW3201
        members = handler.generate_schema(tuple.__class_getitem__((self.member, ...)))
        return core_schema.no_info_wrap_validator_function(self._validate, members)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:  # noqa: PLW3201
        array = handler(schema)
        kinds = [array["items"], array]
        kinds += [{"type": "boolean"}] if self.or_presence else []
        kinds += [{"type": "null"}] if self.or_null else []
        return {"anyOf": kinds}

    def _validate(self, value: Any, handler: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        if (self.or_presence and isinstance(value, bool)) or (self.or_null and value is None):
            return value
        if value is None or isinstance(value, (dict, bool)):
            allowed = f"{self.what}, or a list of them"
            allowed += ", true (present) or false (absent)" if self.or_presence else ""
            raise wrong(f"found {show_value(value)}, allowed: {allowed}")
        return handler(tuple(value) if isinstance(value, list) else (value,))


def _to_tuple(value: Any) -> Any:  # noqa: ANN401
    return tuple(value) if isinstance(value, list) else value


def _to_text(value: Any) -> Any:  # noqa: ANN401
    """Take `0` for `"0"`: the loader reads only what writes back to the same text as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        allowed = "up to 64 letters, digits, '.', '_', '-', beginning with a letter or digit"
        raise wrong(f"found {show_text(value)}, allowed: {allowed}")
    return value


def _method(value: str) -> str:
    if value not in METHODS:
        hint = did_you_mean(value.upper(), METHODS)
        allowed = "" if hint else ", allowed: a method in upper case, such as GET, POST or PROPFIND"
        raise wrong(f"unknown method {show_text(value)}{hint}{allowed}")
    return value


def _path_glob(value: str) -> str:
    if not value:
        raise wrong("found an empty text, allowed: a glob that begins with '/'")
    if not value.startswith(("/", "**")):
        raise wrong(f"found {show_text(value)}, allowed: a glob that begins with '/'{_path_hint(value)}")
    _refuse_query(value)
    try:
        path_glob(value)
    except PatternError as error:
        raise wrong(f"bad glob {show_text(value)}: {error}") from error
    return value


def _path_hint(value: str) -> str:
    if "://" in value:
        return "; a rule sees the path only, not scheme and host"
    return f", did you mean {show_text('/**/' + value if value.startswith('*') else '/' + value)}?"


def _refuse_query(value: str) -> None:
    if re.search(r"\?[\w.-]+=", value) or "#" in value:
        raise wrong(f"found {show_text(value)}, allowed: a glob on the path; rules do not see the query")


def _regex(value: str) -> str:
    if not value:
        raise wrong("found an empty text, allowed: an RE2 expression for the whole path")
    try:
        return check_regex(value)
    except PatternError as error:
        hint = ""
        if "perl operator" in str(error):
            hint = "; RE2 has no look-around, use 'unless' for exceptions"
        elif "invalid escape sequence: \\" in str(error) and str(error)[-1:].isdigit():
            hint = "; RE2 has no back-references"
        raise wrong(f"bad regular expression {show_text(value)}: {error}{hint}") from error


def _field_name(value: str) -> str:
    if not value.isascii() or not is_token(value.encode("ascii", "replace")):
        hint = "; leave out the ':'" if value.endswith(":") and is_token(value[:-1].encode("ascii", "replace")) else ""
        raise wrong(f"{show_text(value)} is no field name, allowed: letters, digits and !#$%&'*+-.^_`|~{hint}")
    return value


def _read_field_name(value: str) -> str:
    _field_name(value)
    if "_" in value:
        hint = value.replace("_", "-")
        raise wrong(f"no request has this field, those with '_' in the name are dropped; did you mean {show_text(hint)}?")
    if value.lower() in _CONNECTION_FIELDS:
        raise wrong(f"{value} belongs to one connection, allowed: a field that the client sends to the app")
    return value


def _set_field_name(value: str) -> str:
    _field_name(value)
    _refuse_own(value, "set")
    if value.lower() == "set-cookie":
        raise wrong("a policy cannot set Set-Cookie: it would take away the app's own cookies")
    return value


def _removed_field_name(value: str) -> str:
    suffix = value.removeprefix("*")
    if value.startswith("*") and (not suffix or "*" in suffix):
        raise wrong(f"found {show_text(value)}, allowed: a field name, or '*' and how names end, such as '*-Cache-Control'")
    _field_name(suffix)
    if value.startswith("*"):
        for name in (*_CONNECTION_FIELDS, *_OWN_MEANS):
            if name.endswith(suffix.lower()):
                raise wrong(f"{show_text(value)} takes {name} away too; name more of the field")
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
        hint = "; a text after '|' or '>' ends with a line break, use '|-', '>-' or quotes" if bad[0] == "\n" else ""
        raise wrong(f"found U+{ord(bad[0]):04X} in the field value {show_text(value)}, allowed: {allowed}{hint}")
    if value != value.strip(" \t"):
        raise wrong(f"found white space around the field value {show_text(value)}, allowed: none")
    return value


def _set_value(value: Any) -> Any:  # noqa: ANN401
    if value is None:
        raise wrong("found nothing, allowed: a field value; to take a field away, list it under 'remove'")
    if isinstance(value, (list, dict)):
        raise wrong(f"found {show_value(value)}, allowed: one field value; write several members as one text with commas")
    return _to_text(value)


def _status(value: Any) -> str:  # noqa: ANN401
    text = str(value) if not isinstance(value, bool) else "?"
    if _STATUS_CODE.fullmatch(text) or _STATUS_CLASS.fullmatch(text):
        return text
    hint = f", did you mean '{text.lower()}'?" if _STATUS_CLASS.fullmatch(text.lower()) else ""
    raise wrong(f"found {show_value(value)}, allowed: 100 to 599, or a class such as '3xx'{hint}")


def _content_type(value: str) -> str:
    if ";" in value:
        raise wrong(f"found {show_text(value)}, allowed: a media type without parameters, such as 'text/html'")
    lower = value.lower()
    if not _MEDIA_TYPE.fullmatch(lower) or not ("/" in lower or "*" in lower):
        raise wrong(f"found {show_text(value)}, allowed: a media type or a glob on it, such as 'application/json' or 'image/*'")
    return lower


def _request_path(value: str) -> str:
    if "?" in value:
        raise wrong(f"found {show_text(value)}, allowed: a path; use 'target' for a path with a query")
    return _request_target(value)


def _request_target(value: str) -> str:
    try:
        parse_target("OPTIONS", value.encode())
    except TargetError as error:
        raise wrong(f"found {show_text(value)}, allowed: a path that begins with '/', as the client sends it; {error}") from error
    return value


_Text = Annotated[str, BeforeValidator(_to_text)]
_Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": _NAME_PATTERN})]
_Method = Annotated[str, AfterValidator(_method), Field(json_schema_extra={"enum": sorted(METHODS)})]
_PathGlob = Annotated[str, AfterValidator(_path_glob), Field(json_schema_extra={"pattern": r"^(/|\*\*)"})]
_Regex = Annotated[str, AfterValidator(_regex)]
_FieldValue = Annotated[
    str, BeforeValidator(_to_text), AfterValidator(_field_value), WithJsonSchema({"type": ["string", "integer"]})
]
_SetValue = Annotated[
    str, BeforeValidator(_set_value), AfterValidator(_field_value), WithJsonSchema({"type": ["string", "integer"]})
]
_Status = Annotated[
    str,
    BeforeValidator(_status),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string", "pattern": "^[1-5](xx|[0-9]{2})$"}]}
    ),
]
_ContentType = Annotated[str, AfterValidator(_content_type)]
_Methods = Annotated[tuple[str, ...], _OneOrMany("a method", _Method)]
_Paths = Annotated[tuple[str, ...], _OneOrMany("a glob", _PathGlob)]
_Regexes = Annotated[tuple[str, ...], _OneOrMany("a regular expression", _Regex)]
_Values = Annotated[tuple[str, ...] | bool, _OneOrMany("a glob", _FieldValue, or_presence=True)]
_XRequestedWith = Annotated[tuple[str, ...] | bool | None, _OneOrMany("a value", _FieldValue, or_presence=True)]
_Statuses = Annotated[tuple[str, ...], _OneOrMany("a status", _Status)]
_ContentTypes = Annotated[tuple[str, ...], _OneOrMany("a media type", _ContentType)]
_ReadFieldName = Annotated[str, AfterValidator(_read_field_name)]
_AnyFieldName = Annotated[str, AfterValidator(_field_name)]
_SetFieldName = Annotated[str, AfterValidator(_set_field_name)]
_RemovedFieldName = Annotated[str, AfterValidator(_removed_field_name)]
_RemovedFields = Annotated[tuple[str, ...], _OneOrMany("a field name", _RemovedFieldName)]
_Lines = Annotated[tuple[str, ...], _OneOrMany("a field value", _FieldValue)]
_ExpectedLines = Annotated[
    tuple[str, ...] | bool | None, _OneOrMany("a field value", _FieldValue, or_presence=True, or_null=True)
]
_NameOrNull = Annotated[str | None, WithJsonSchema({"type": ["string", "null"]})]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ResponseConditionsModel(_Model):
    """Conditions on the head of the app's response. Every key given must hold."""

    status: _Statuses = Field(
        default=(), description="Status codes (200) or classes (3xx). Absent: any.", examples=[[200, "3xx"]]
    )
    content_types: _ContentTypes = Field(
        default=(),
        description="Media types without parameters, without regard to case; * and ? as in globs. "
        "A response without Content-Type matches none. Absent: any.",
        examples=[["application/json", "image/*"]],
    )
    attachment: bool | None = Field(
        default=None,
        description="Whether Content-Disposition says attachment: true for downloads, false for all else. Absent: either.",
    )

    @model_validator(mode="after")
    def _check_is_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise wrong("found an empty mapping, allowed: at least one of status, content_types, attachment")
        return self


class ConditionsModel(_Model):
    """Conditions on a request and its response. Every key given must hold; a list holds if one member does."""

    methods: _Methods = Field(
        default=(),
        description="Request methods. GET implies HEAD; X-HTTP-Method-Override and its siblings count too. Absent: any.",
        examples=[["GET"]],
    )
    paths: _Paths = Field(
        default=(),
        description="Globs on the decoded path: * within a segment, ** across segments, ? one character. "
        "Tried on every spelling of the path under which the app would reach the same view. Absent: any path.",
        examples=[["/api/**"]],
    )
    path_regexes: _Regexes = Field(
        default=(),
        description="RE2 expressions on the decoded path, anchored at both ends. Absent: any path.",
        examples=[["/reports/[0-9]+"]],
    )
    x_requested_with: _XRequestedWith = Field(
        default=None,
        description="The X-Requested-With request field: a value or a list of values (without regard to case, each member "
        "of the field counts, * and ? as in globs), true for present, false for absent. fetch() and axios do not send this "
        "field: see script_request.",
        examples=["XMLHttpRequest"],
    )
    script_request: bool | None = Field(
        default=None,
        description="true: the request was made by a script, that is X-Requested-With has XMLHttpRequest or Sec-Fetch-Dest "
        "is empty (XMLHttpRequest, fetch(), EventSource; browsers send it over HTTPS and to localhost). false: it was not.",
    )
    headers: dict[_ReadFieldName, _Values] = Field(
        default_factory=dict,
        description="Any other request field: a glob or a list of globs on the whole value (without regard to case), true "
        "for present, false for absent. Every field named goes into Vary on the paths of this rule.",
        examples=[{"Accept": "*json*"}],
    )
    response: ResponseConditionsModel | None = Field(
        default=None, description="Conditions on the head of the app's response."
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        names = [name.lower() for name in self.headers]
        for name in self.headers:
            if names.count(name.lower()) > 1:
                raise wrong(f"found {name} more than once under headers, allowed: once, field names have no case")
        also = next((name for name in self.headers if name.lower() == "x-requested-with"), None)
        if also is not None and self.x_requested_with is not None:
            raise wrong(f"found both x_requested_with and {also} under headers, allowed: one of them")
        if self.script_request is False and _names_script(self.x_requested_with):
            raise wrong("x_requested_with asks for XMLHttpRequest and script_request: false for its absence: never both")
        return self


def _names_script(condition: tuple[str, ...] | bool | None) -> bool:
    return isinstance(condition, tuple) and bool(condition) and all(v.lower() == "xmlhttprequest" for v in condition)


class RuleModel(_Model):
    """One rule. The first rule whose match holds, and whose unless does not, decides."""

    name: _Name = Field(description="Unique. Appears in logs, metrics and explain.", examples=["ajax"])
    because: str = Field(default="", description="Why this rule is here, for the next person who reads it.")
    match: ConditionsModel = Field(
        default_factory=ConditionsModel, description="What the rule is for. Absent: every request."
    )
    unless: ConditionsModel | None = Field(
        default=None, description="The rule is skipped if all keys given here hold. Same keys as match."
    )
    policy: str = Field(
        default="strict",
        description="What happens to the response: classic (the recipe of the story, for Internet Explorer and everything "
        "since), strict (what every cache of today honours), revalidate (may be stored, never used unasked), "
        "pass (untouched), or one of your own under policies.",
        json_schema_extra={"examples": ["classic", "strict", "revalidate", "pass"]},
    )
    mode: Mode = Field(
        default="enforce",
        description="enforce: do it. observe: change nothing, only log and count what would change; later rules are still asked.",
    )

    @model_validator(mode="after")
    def _check_unless(self) -> Self:
        if self.unless is not None:
            if not self.unless.model_fields_set:
                raise wrong("'unless' is empty, allowed: at least one condition; leave the key out")
            if self.unless == self.match:
                raise wrong("'unless' says the same as 'match', so the rule never applies")
        return self


class PolicyModel(_Model):
    """A policy of your own, made from another."""

    extends: str = Field(
        default="strict", description="The policy to start from: a built-in one or another of your own. Absent: strict."
    )
    set: dict[_SetFieldName, _SetValue] = Field(
        default_factory=dict,
        description="Response fields to set. Each replaces every line of that name. Cache-Control keeps the app's no-transform.",
        examples=[{"Surrogate-Control": "no-store"}],
    )
    remove: _RemovedFields = Field(
        default=(),
        description="Response fields to take away; *-suffix takes away every field whose name ends so. "
        "A field that the extended policy sets is not set any more.",
        examples=[["Server", "*-Cache-Control"]],
    )
    etag: ETagMode | None = Field(
        default=None,
        description="one-time: each 200 gets a tag that no client has seen, the app gets its own back in If-Match. "
        "keep: as the app sent it. remove: none. Absent: as in the extended policy.",
    )
    last_modified: LastModifiedMode | None = Field(
        default=None,
        description="date: set to the response's Date. keep: as the app sent it. remove: none. Absent: as in the extended policy.",
    )
    conditionals: ConditionalsMode | None = Field(
        default=None,
        description="strip: take If-None-Match, If-Modified-Since and If-Range with Range off GET and HEAD requests, so that "
        "the app cannot answer 304. keep: leave them. Absent: as in the extended policy.",
    )

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        names = [name.lower() for name in self.set]
        for name in self.set:
            if names.count(name.lower()) > 1:
                raise wrong(f"found {name} more than once under set, allowed: once, field names have no case")
        both = sorted(set(names) & {name.lower() for name in self.remove})
        if both:
            raise wrong(f"found {both[0]} under set and under remove, allowed: one of them")
        return self


class TestRequestModel(_Model):
    """The request of a test."""

    __test__ = False

    method: _Method = Field(default="GET", description="The request method. Absent: GET.")
    path: Annotated[str, AfterValidator(_request_path)] | None = Field(
        default=None, description="The path as the client sends it, without a query.", examples=["/file/last_uploaded"]
    )
    target: Annotated[str, AfterValidator(_request_target)] | None = Field(
        default=None, description="The whole request target as the client sends it, instead of path.", examples=["/a%20b?x=1"]
    )
    headers: dict[_AnyFieldName, _Lines] = Field(
        default_factory=dict,
        description="Request fields; a list stands for several lines.",
        examples=[{"X-Requested-With": "XMLHttpRequest"}],
    )

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if (self.path is None) == (self.target is None):
            found = "neither path nor target" if self.path is None else "both path and target"
            raise wrong(f"found {found}, allowed: one of them")
        if (self.path or self.target) == "*" and self.method != "OPTIONS":
            raise wrong("found '*' as the request target, which belongs to OPTIONS only")
        return self


class TestResponseModel(_Model):
    """What the app answers in a test."""

    __test__ = False

    status: Annotated[int, Field(ge=200, le=599)] = Field(default=200, description="The status. Absent: 200.")
    headers: dict[_AnyFieldName, _Lines] = Field(
        default_factory=dict, description="Response fields as the app sends them; a list stands for several lines."
    )


class ExpectationModel(_Model):
    """What must come out. Only the keys given are compared."""

    rule: _NameOrNull = Field(default=None, description="The name of the rule that decides; null: none does.")
    policy: str | None = Field(default=None, description="The name of the policy that is applied.")
    observed: _NameOrNull = Field(
        default=None, description="The name of the rule in mode observe that would have decided; null: none."
    )
    headers: dict[_AnyFieldName, _ExpectedLines] = Field(
        default_factory=dict,
        description="Response fields as the client gets them: a value (* stands for any text), a list for several lines, "
        "true for present, null or false for absent.",
        examples=[{"Pragma": "no-cache", "Age": None}],
    )
    vary: Annotated[tuple[str, ...] | None, _OneOrMany("a field name", _AnyFieldName)] = Field(
        default=None, description="The members of Vary, in any order; an empty list: no Vary.", examples=[["X-Requested-With"]]
    )
    conditionals: Literal["stripped", "kept"] | None = Field(
        default=None, description="What happens to If-None-Match, If-Modified-Since and If-Range on their way to the app."
    )

    @model_validator(mode="after")
    def _check_is_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise wrong("expects nothing, allowed: at least one of rule, policy, observed, headers, vary, conditionals")
        return self


class CaseModel(_Model):
    """A test: a request, what the app answers to it, and what must come out."""

    name: str = Field(default="", description="What the test shows.", examples=["a download is not touched"])
    request: TestRequestModel = Field(description="The request.")
    response: TestResponseModel = Field(
        default_factory=TestResponseModel, description="What the app answers. Absent: 200 without fields."
    )
    expect: ExpectationModel = Field(description="What must come out.")


class FileModel(_Model):
    """Rules of nocache-proxy. Keys that begin with x- are ignored: a place for anchors."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    rules: Annotated[tuple[RuleModel, ...], BeforeValidator(_to_tuple)] = Field(
        description="The rules, in order: the first that matches decides. No match: the response is passed through untouched."
    )
    policies: dict[_Name, PolicyModel] = Field(
        default_factory=dict,
        description="Policies of your own, by name.",
        examples=[{"classic-plus": {"extends": "classic", "remove": ["Server"]}}],
    )
    tests: Annotated[tuple[CaseModel, ...], BeforeValidator(_to_tuple)] = Field(
        default=(),
        description="Tests of these rules. Run by check and before every reload: a failing test keeps the old rules in force.",
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_anchors(cls, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {key: member for key, member in value.items() if not key.startswith("x-")}
        return value


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a rules file, for editors."""
    return FileModel.model_json_schema(schema_generator=_Generator)


class _Generator(GenerateJsonSchema):
    """Leaves out what an editor would show as noise: titles, and defaults that stand for an absent key."""

    schema_dialect = SCHEMA_DIALECT

    def generate(self, schema: CoreSchema, mode: Any = "validation") -> JsonSchemaValue:  # noqa: ANN401
        generated = _tidy(super().generate(schema, mode))
        assert isinstance(generated, dict)
        generated["patternProperties"] = {"^x-": {"description": "Ignored: a place for YAML anchors."}}
        return {"$schema": self.schema_dialect, "title": "nocache-proxy rules", **generated}


def _tidy(schema: Any, *, is_names: bool = False) -> Any:  # noqa: ANN401
    if isinstance(schema, list):
        return [_tidy(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    if is_names:
        return {name: _tidy(member) for name, member in schema.items()}
    noise = {"title"} | ({"default"} if schema.get("default") in (None, "", [], {}, ()) else set())
    tidy = {
        key: _tidy(member, is_names=key in ("properties", "$defs"))
        for key, member in schema.items()
        if key not in noise
    }
    kinds = tidy.get("anyOf")
    if isinstance(kinds, list) and "default" in noise and "default" in schema:
        tidy["anyOf"] = kinds = [kind for kind in kinds if kind != {"type": "null"}]
        if len(kinds) == 1:
            del tidy["anyOf"]
            tidy = {**kinds[0], **tidy}
    return tidy
