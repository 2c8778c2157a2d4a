"""Single conditions, asked of the value of a request field or of a response's head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Final

import re2

from proxy.message.fields import Field
from proxy.rules.globs import compile_quietly, full_match, member_glob, value_glob
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


def response_holds(conditions: ResponseConditions, status: int, fields: Sequence[Field]) -> bool:
    """Tell whether response conditions hold for a response's head."""
    return response_facts_hold(conditions, ResponseFacts(status, fields))


class ResponseFacts:
    """What response conditions ask of a response's head."""

    def __init__(self, status: int, fields: Sequence[Field]) -> None:
        self.status = status
        self._fields = fields

    @cached_property
    def content_type(self) -> str:
        return self._value(b"content-type").partition(";")[0].strip().lower()

    @cached_property
    def is_attachment(self) -> bool:
        return self._value(b"content-disposition").partition(";")[0].strip().lower() == "attachment"

    def _value(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self._fields if key.lower() == name), "")


def response_facts_hold(conditions: ResponseConditions, facts: ResponseFacts) -> bool:
    """Tell whether response conditions hold."""
    status = str(facts.status)
    if (
        conditions.statuses
        and status not in conditions.statuses
        and f"{status[0]}xx" not in conditions.statuses
    ):
        return False
    if conditions.content_types and not any(
        full_match(value_glob(glob), facts.content_type) for glob in conditions.content_types
    ):
        return False
    return conditions.attachment is None or conditions.attachment is facts.is_attachment
