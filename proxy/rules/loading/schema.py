"""The shape of a rules file: each key with what it means and what it allows; the JSON Schema comes from here.

What takes two places of the file to see (names that are used twice or never defined) is in `references`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from proxy.message.rewrite import ETagMode, LastModifiedMode
from proxy.rules.loading.kinds import (
    AnyFieldName,
    ContentTypes,
    ExpectedLines,
    Lines,
    Method,
    Methods,
    Name,
    NameOrNull,
    OneOrMany,
    ParameterName,
    ParameterValues,
    Paths,
    Presence,
    ReadFieldName,
    Regexes,
    RemovedFields,
    RequestPath,
    RequestTarget,
    SetFieldName,
    SetValue,
    Statuses,
    Values,
    XRequestedWith,
    refuse_repeated,
    to_tuple,
    wrong,
)
from proxy.rules.model import ConditionalsMode, Mode


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ResponseConditionsModel(_Model):
    """Conditions on the head of the app's response. Every key given must hold."""

    status: Statuses = Field(
        default=(),
        description="Status codes (200) or classes (3xx); a 304 counts as the 200 that it stands for, where that "
        "protects it. Absent: any.",
        examples=[[200, "3xx"]],
    )
    content_types: ContentTypes = Field(
        default=(),
        description="Media types without parameters, without regard to case; * and ? as in globs. A "
        "response without Content-Type matches none, but a 304 any, where that protects it. Absent: any.",
        examples=[["application/json", "image/*"]],
    )
    attachment: bool | None = Field(
        default=None,
        description="Whether Content-Disposition says attachment: true for downloads, false for all else. "
        "Absent: either.",
    )

    @model_validator(mode="after")
    def _check_is_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise wrong("found an empty mapping, allowed: at least one of status, content_types, attachment")
        return self


class ConditionsModel(_Model):
    """Conditions on a request and its response. Every key must hold; a list holds if one member does."""

    methods: Methods = Field(
        default=(),
        description="Request methods. GET implies HEAD; X-HTTP-Method-Override and its siblings count too. "
        "Absent: any.",
        examples=[["GET"]],
    )
    paths: Paths = Field(
        default=(),
        description="Globs on the decoded path: * within a segment, ** across segments, ? one character. "
        "Tried on every spelling of the path under which the app would reach the same view. Absent: any "
        "path.",
        examples=[["/api/**"]],
    )
    path_regexes: Regexes = Field(
        default=(),
        description="RE2 expressions on the whole decoded path, with or without ^ and $. Absent: any path.",
        examples=[["/reports/[0-9]+"]],
    )
    x_requested_with: XRequestedWith = Field(
        default=None,
        description="The X-Requested-With request field: a value or a list of values (without regard to "
        "case, each member of the field counts, * and ? as in globs), true for present, false for absent. "
        "fetch() and axios do not send this field: see script_request.",
        examples=["XMLHttpRequest"],
    )
    script_request: bool | None = Field(
        default=None,
        description="true: the request was made by a script, that is X-Requested-With has XMLHttpRequest "
        "or Sec-Fetch-Dest is empty (XMLHttpRequest, fetch(), EventSource; browsers send it over HTTPS and "
        "to localhost). false: it was not.",
    )
    headers: dict[ReadFieldName, Values] = Field(
        default_factory=dict,
        description="Any other request field: a glob or a list of globs on the whole value (without regard "
        "to case), true for present, false for absent. Every field named goes into Vary on the paths of "
        "this rule.",
        examples=[{"Accept": "*json*"}],
    )
    query: dict[ParameterName, ParameterValues] = Field(
        default_factory=dict,
        description="Parameters of the query, by name, as the app decodes them, with regard to case: a glob or a "
        "list of globs (* any text, ? one character), true for present, false for absent. Of a parameter that is "
        "given twice each value counts.",
        examples=[{"action": "list*", "ajax": True}],
    )
    response: ResponseConditionsModel | None = Field(
        default=None, description="Conditions on the head of the app's response."
    )

    @field_validator("script_request")
    @classmethod
    def _check_is_possible(cls, value: bool | None, info: ValidationInfo) -> bool | None:  # noqa: FBT001 - pydantic passes it by position
        if value is False and _asks_for_ajax(info.data.get("x_requested_with")):
            raise wrong(
                "found false, but x_requested_with asks for XMLHttpRequest: never both; leave one out"
            )
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, Presence], info: ValidationInfo) -> dict[str, Presence]:
        refuse_repeated(value)
        also = next((name for name in value if name.lower() == "x-requested-with"), None)
        if also is not None and info.data.get("x_requested_with") is not None:
            raise wrong(f"found {also} here and x_requested_with beside, allowed: one of them")
        return value


def _asks_for_ajax(values: object) -> bool:
    return isinstance(values, tuple) and bool(values) and all(v.lower() == "xmlhttprequest" for v in values)


class RuleModel(_Model):
    """One rule. The first rule whose match holds, and whose unless does not, decides."""

    name: Name = Field(description="Unique. Appears in logs, metrics and explain.", examples=["ajax"])
    because: str = Field(default="", description="Why this rule is here, for the next person who reads it.")
    match: ConditionsModel = Field(
        default_factory=ConditionsModel, description="What the rule is for. Absent: every request."
    )
    unless: ConditionsModel | None = Field(
        default=None, description="The rule is skipped if all keys given here hold. Same keys as match."
    )
    policy: str = Field(
        default="strict",
        description="What happens to the response: classic (the recipe of the story, for Internet Explorer "
        "and everything since), strict (what every cache of today honours), revalidate (may be stored, "
        "never used unasked), pass (untouched), or one of your own under policies.",
        json_schema_extra={"examples": ["classic", "strict", "revalidate", "pass"]},
    )
    mode: Mode = Field(
        default="enforce",
        description="enforce: do it. observe: change nothing, only log and count what would change; later "
        "rules are still asked.",
    )

    @field_validator("unless")
    @classmethod
    def _check_unless(cls, value: ConditionsModel | None, info: ValidationInfo) -> ConditionsModel | None:
        if value is not None and not value.model_fields_set:
            raise wrong("found an empty mapping, allowed: at least one condition; leave the key out")
        says_something = value is not None and value != ConditionsModel()  # empty lists say nothing
        if says_something and value == info.data.get("match"):
            raise wrong("says the same as 'match', so the rule never applies")
        return value


class PolicyModel(_Model):
    """A policy of your own, made from another."""

    extends: str = Field(
        default="strict",
        description="The policy to start from: a built-in one or another of your own. Absent: strict.",
    )
    set: dict[SetFieldName, SetValue] = Field(
        default_factory=dict,
        description="Response fields to set. Each replaces every line of that name. Cache-Control keeps "
        "the app's no-transform.",
        examples=[{"Surrogate-Control": "no-store"}],
    )
    remove: RemovedFields = Field(
        default=(),
        description="Response fields to take away; *-suffix takes away every field whose name ends so. A "
        "field that the extended policy sets is not set any more.",
        examples=[["Server", "*-Cache-Control"]],
    )
    etag: ETagMode | None = Field(
        default=None,
        description="mark: a 200 or 206 gets a tag that no copy stored without this policy has, the app gets its own back "
        "in If-Match. keep: as the app sent it. remove: none. Absent: as in the extended policy.",
    )
    last_modified: LastModifiedMode | None = Field(
        default=None,
        description="date: set to the response's Date. keep: as the app sent it. remove: none. Absent: as "
        "in the extended policy.",
    )
    conditionals: ConditionalsMode | None = Field(
        default=None,
        description="strip: take If-None-Match, If-Modified-Since and If-Range with Range off GET and HEAD "
        "requests, so that the app cannot answer 304. keep: leave them. Absent: as in the extended policy.",
    )

    @field_validator("set")
    @classmethod
    def _check_set(cls, value: dict[str, str]) -> dict[str, str]:
        refuse_repeated(value)
        return value

    @field_validator("remove")
    @classmethod
    def _check_remove(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        set_names = {name.lower() for name in info.data.get("set", ())}
        for name in value:
            if name.lower() in set_names:
                raise wrong(f"found {name} here and under set, allowed: one of them")
        return value


class TestRequestModel(_Model):
    """The request of a test."""

    __test__ = False

    method: Method = Field(default="GET", description="The request method. Absent: GET.")
    path: RequestPath | None = Field(
        default=None,
        description="The path as the client sends it, without a query.",
        examples=["/file/last_uploaded"],
    )
    target: RequestTarget | None = Field(
        default=None,
        description="The whole request target as the client sends it, instead of path.",
        examples=["/a%20b?x=1"],
    )
    headers: dict[AnyFieldName, Lines] = Field(
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
    headers: dict[AnyFieldName, Lines] = Field(
        default_factory=dict,
        description="Response fields as the app sends them; a list stands for several lines.",
    )


class ExpectationModel(_Model):
    """What must come out. Only the keys given are compared."""

    rule: NameOrNull = Field(default=None, description="The name of the rule that decides; null: none does.")
    policy: str | None = Field(default=None, description="The name of the policy that is applied.")
    observed: NameOrNull = Field(
        default=None, description="The name of the rule in mode observe that would have decided; null: none."
    )
    headers: dict[AnyFieldName, ExpectedLines] = Field(
        default_factory=dict,
        description="Response fields as the client gets them: a value (* stands for any text), a list for "
        "several lines, true for present, null or false for absent.",
        examples=[{"Pragma": "no-cache", "Age": None}],
    )
    vary: Annotated[tuple[str, ...] | None, OneOrMany("a field name", AnyFieldName)] = Field(
        default=None,
        description="The members of Vary, in any order; an empty list: no Vary.",
        examples=[["X-Requested-With"]],
    )
    conditionals: Literal["stripped", "kept"] | None = Field(
        default=None,
        description="What happens to If-None-Match, If-Modified-Since and If-Range on their way to the app.",
    )

    @model_validator(mode="after")
    def _check_is_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise wrong(
                "expects nothing, allowed: at least one of rule, policy, observed, headers, vary, "
                "conditionals"
            )
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
    rules: Annotated[tuple[RuleModel, ...], BeforeValidator(to_tuple)] = Field(
        description="The rules, in order: the first that matches decides. No match: the response is passed "
        "through untouched."
    )
    policies: dict[Name, PolicyModel] = Field(
        default_factory=dict,
        description="Policies of your own, by name.",
        examples=[{"classic-plus": {"extends": "classic", "remove": ["Server"]}}],
    )
    tests: Annotated[tuple[CaseModel, ...], BeforeValidator(to_tuple)] = Field(
        default=(),
        description="Tests of these rules. Run by check and before every reload: a failing test keeps the "
        "old rules in force.",
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_anchors(cls, value: object) -> object:
        if isinstance(value, dict):
            return {key: member for key, member in value.items() if not key.startswith("x-")}
        return value
