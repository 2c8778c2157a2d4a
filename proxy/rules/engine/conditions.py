"""Single conditions, asked of the value of a request field or of a response's head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Final

import re2

from proxy.message.fields import Field, values_of
from proxy.message.status import NOT_MODIFIED
from proxy.rules.engine.globs import compile_quietly, full_match, member_glob, value_glob
from proxy.rules.model import FieldCondition, ResponseConditions


class FieldTest:
    """One condition on a request field, compiled.

    A value is matched as a whole, and as a list by one more expression: a client may send 65,000 members.
    """

    def __init__(self, condition: FieldCondition) -> None:
        self._condition = condition

    @cached_property
    def _expression(self) -> re2._Regexp[str]:
        return compile_quietly("|".join(f"(?:{value_glob(glob)})" for glob in self._condition.globs))

    @cached_property
    def _list_expression(self) -> re2._Regexp[str] | None:
        members = [member_glob(glob) for glob in self._condition.globs if "," not in glob]
        return compile_quietly(f"(?:.*,)?(?:{'|'.join(members)})(?:,.*)?") if members else None

    def holds(self, value: str | None) -> bool:
        """Ask it of all lines of the field, joined, or `None` when it is absent."""
        if self._condition.present is not None:
            return (value is not None) is self._condition.present
        if value is None:
            return False
        if self._expression.fullmatch(value) is not None:
            return True
        if not self._condition.by_member or self._list_expression is None:
            return False
        return self._list_expression.fullmatch(_as_list(value)) is not None


@lru_cache(4)  # rule after rule asks it of the same value
def _as_list(value: str) -> str:
    """Leave out the white space around the members of a list."""
    return ",".join([member.strip(" \t") for member in value.split(",")])


_XML_HTTP_REQUEST: Final = FieldTest(
    FieldCondition("X-Requested-With", globs=("XMLHttpRequest",), by_member=True)
)


def field_holds(condition: FieldCondition, value: str | None) -> bool:
    """Tell whether a condition on a request field holds for its value (`None`: absent)."""
    return FieldTest(condition).holds(value)


def is_script_request(x_requested_with: str | None, sec_fetch_dest: str | None) -> bool:
    """Tell whether a script asked: jQuery and its kin say so by X-Requested-With, browsers by Sec-Fetch-Dest."""
    return _XML_HTTP_REQUEST.holds(x_requested_with) or (sec_fetch_dest or "").strip(" \t").lower() == "empty"


class ResponseFacts:
    """What response conditions ask of a response's head.

    A 304 renews the head of a successful response that a cache has stored (RFC 9111 section 4.3.4), and mostly says
    neither its status nor its type. What it leaves out is unknown: that holds in the broad reading, and not in
    the narrow one. Of several types the broad reading takes any, the narrow one all.
    """

    def __init__(self, status: int, fields: Sequence[Field]) -> None:
        self._status = status
        self._fields = fields

    def hold(self, conditions: ResponseConditions, *, is_broad: bool) -> bool:
        """Tell whether response conditions hold."""
        return (
            self._has_status(conditions.statuses, is_broad=is_broad)
            and self._has_type(conditions.content_types, is_broad=is_broad)
            and self._is_attachment(conditions.attachment, is_broad=is_broad)
        )

    def _has_status(self, statuses: Sequence[str], *, is_broad: bool) -> bool:
        status = str(self._status)
        if not statuses or status in statuses or f"{status[0]}xx" in statuses:
            return True
        return is_broad and self._status == NOT_MODIFIED and any(each[0] == "2" for each in statuses)

    def _has_type(self, globs: Sequence[str], *, is_broad: bool) -> bool:
        if not globs:
            return True
        if is_broad and not self._content_types and self._status == NOT_MODIFIED:
            return True
        quantifier = any if is_broad else all
        return quantifier(
            any(full_match(value_glob(glob), each) for glob in globs) for each in self._content_types or ("",)
        )

    def _is_attachment(self, asked: bool | None, *, is_broad: bool) -> bool:  # noqa: FBT001 - as in the rule
        if asked is None:
            return True
        if not self._dispositions and self._status == NOT_MODIFIED:
            return is_broad
        return asked is ("attachment" in self._dispositions[:1])

    @cached_property
    def _content_types(self) -> list[str]:
        """Of each line, and of each member where lines were joined into one (RFC 9110 section 5.3)."""
        lines = values_of(self._fields, b"content-type")
        return [_media_type(member) for line in lines for member in line.split(b",")]

    @cached_property
    def _dispositions(self) -> list[str]:
        return self._values(b"content-disposition")

    def _values(self, name: bytes) -> list[str]:
        """Of each line what comes before its parameters."""
        return [_media_type(value) for value in values_of(self._fields, name)]


def _media_type(value: bytes) -> str:
    """What comes before parameters, in lower case."""
    return value.decode("latin-1").partition(";")[0].strip().lower()
