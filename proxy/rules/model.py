"""The rules as plain values: what a rules file means once it has been read and checked.

Nothing here reads YAML, matches a request or touches a response: `loading` makes these values,
`matching` compiles them, `explain` and `lint` talk about them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ETagMode = Literal["mark", "keep", "remove"]
LastModifiedMode = Literal["date", "keep", "remove"]
ConditionalsMode = Literal["strip", "keep"]
Mode = Literal["enforce", "observe"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to the fields of a response (and to the conditional fields of its request).

    Attributes:
        name: as in the rules file.
        set_fields: (name, value) pairs, written last and in this order; each replaces every
            upstream line of that name. A `Cache-Control` keeps the upstream's `no-transform`.
        remove: lower-case field names to drop; one that begins with `*` drops every name that
            ends with the rest (`*-cache-control`).
        etag: `mark` gives enforced responses tags that no copy stored without them carries (DESIGN section 4).
        last_modified: `date` sets it to the response's `Date`.
        conditionals: `strip` takes validation preconditions off GET and HEAD requests.
    """

    name: str
    set_fields: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    etag: ETagMode = "keep"
    last_modified: LastModifiedMode = "keep"
    conditionals: ConditionalsMode = "keep"


@dataclass(frozen=True, slots=True)
class FieldCondition:
    """A condition on one request field.

    Attributes:
        name: the field name as the author wrote it (this spelling goes into `Vary`).
        present: `True` / `False` when only presence or absence is asked for, else `None`.
        globs: values, any of which may match, without regard to case; `*` any run of characters,
            `?` one character. Empty when `present` is given.
        by_member: compare each comma-separated member instead of the whole field value.
    """

    name: str
    present: bool | None = None
    globs: tuple[str, ...] = ()
    by_member: bool = False


@dataclass(frozen=True, slots=True)
class ResponseConditions:
    """Conditions on the response's head.

    Attributes:
        statuses: exact codes (`200`) and classes (`3xx`), empty for any.
        content_types: globs on the media type without parameters, lower case, empty for any.
        attachment: whether `Content-Disposition` says `attachment`; `None` for either.
    """

    statuses: tuple[str, ...] = ()
    content_types: tuple[str, ...] = ()
    attachment: bool | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """`match` or `unless` of a rule: every condition given must hold.

    Attributes:
        methods: upper-case methods, `HEAD` already added where `GET` is; `None` for any.
        paths: globs on the decoded path; `None` when the key is absent.
        path_regexes: RE2, anchored at both ends; `None` when the key is absent.
        fields: one entry for `x_requested_with` and for each key of `headers`.
        script_request: `X-Requested-With: XMLHttpRequest` or `Sec-Fetch-Dest: empty`.
        response: conditions that can be told only from the response's head.
    """

    methods: frozenset[str] | None = None
    paths: tuple[str, ...] | None = None
    path_regexes: tuple[str, ...] | None = None
    fields: tuple[FieldCondition, ...] = ()
    script_request: bool | None = None
    response: ResponseConditions | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; the first whose `match` holds and whose `unless` does not decides."""

    name: str
    policy: Policy
    match: Conditions = field(default_factory=Conditions)
    unless: Conditions | None = None
    mode: Mode = "enforce"
    because: str = ""
