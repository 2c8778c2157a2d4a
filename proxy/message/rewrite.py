"""Applies a policy to a response's head. A policy is compiled once; then each response takes one pass over its fields.

A treatment changes only what its policy names: other fields keep their order, spelling, number and place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from proxy.message import entity_tags
from proxy.message.directives import has_no_transform
from proxy.message.field_index import LineTable, Noted, drop
from proxy.message.fields import Field, FieldSection, merge_vary
from proxy.message.methods import RETRIEVALS
from proxy.message.status import OK, PARTIAL_CONTENT

ETagMode = Literal["mark", "keep", "remove"]
LastModifiedMode = Literal["date", "keep", "remove"]

AGE: Final = b"age"

_READ_BY_RESPONSES: Final = (b"content-length", b"date")
_CACHE_CONTROL: Final = b"cache-control"
_WITH_CONTENT: Final = (OK, PARTIAL_CONTENT)
_VALIDATORS: Final = [b"etag", b"last-modified"]


class Treatment:
    """What happens to the fields of a response; immutable, made once for a policy and a set of `Vary` names.

    Args:
        set_fields: written last, in this order, in place of every upstream line of their names. A
            `Cache-Control` keeps the upstream's `no-transform` (RFC 9111 section 5.2.2.6).
        remove: lower-case names; with a leading `*` every name that ends with the rest.
        etag: `mark` rewrites the tag of a 200 or 206 to GET or HEAD (`entity_tags`).
        last_modified: `date` sets it to the response's `Date`; a 206 keeps its own, as ranges must fit.
        vary: names to merge into `Vary`.
    """

    __slots__ = ("_etag", "_keeps_validators", "_last_modified", "_set_lines", "_table", "_vary")

    def __init__(
        self,
        set_fields: Iterable[Field] = (),
        remove: Iterable[bytes] = (),
        etag: ETagMode = "keep",
        last_modified: LastModifiedMode = "keep",
        vary: Iterable[bytes] = (),
    ) -> None:
        settings = tuple(set_fields)
        removed = tuple(remove)
        self._set_lines = tuple(name + b": " + value for name, value in settings)
        self._etag = etag
        self._last_modified = last_modified
        self._keeps_validators = etag == last_modified == "keep"
        self._vary = tuple(vary)
        noted = list(_READ_BY_RESPONSES)
        noted += [_CACHE_CONTROL] if any(name.lower() == _CACHE_CONTROL for name, _ in settings) else []
        noted += [AGE] if AGE in removed else []
        noted += [] if self._keeps_validators else _VALIDATORS
        noted += [b"vary"] if self._vary else []
        self._table = LineTable(
            noted,
            left_out=[name.lower() for name, _ in settings]
            + [name for name in removed if not name.startswith(b"*")],
            left_out_suffixes=[name[1:] for name in removed if name.startswith(b"*")],
        )

    def walk(self, section: FieldSection) -> tuple[list[bytes], Noted, int]:
        """Return the lines of a response without those that this treatment drops.

        Returns:
            The lines, the fields that are read here or by the framing, and how many lines were dropped.
        """
        return self._table.walk(section)

    def apply(
        self,
        lines: list[bytes],
        noted: Noted,
        method: str,
        status: int,
        date: bytes,
        *,
        hides_validators: bool = False,
    ) -> int:
        """Change the lines of a final response as the policy says, `Vary` included.

        Args:
            date: the value of the response's `Date`.
            hides_validators: leave out those that the policy would change.

        Returns:
            How many lines were dropped, rewritten or added.
        """
        changed = len(self._set_lines)
        if not self._keeps_validators:
            if hides_validators and method in RETRIEVALS:
                changed += sum([drop(lines, noted, name) for name in _VALIDATORS])
            else:
                changed += self._apply_validators(lines, noted, method, status, date)
        if self._vary:
            changed += self._apply_vary(lines, noted)
        dates = noted.get(b"date")
        if dates is not None and len(dates) > 1 and self._set_lines:
            for place, _ in dates[1:]:  # Werkzeug's own server adds one to the app's
                lines[place] = b""
            changed += len(dates) - 1
        if _CACHE_CONTROL in noted and has_no_transform(*[value for _, value in noted[_CACHE_CONTROL]]):
            lines += [_with_no_transform(line) for line in self._set_lines]
        else:
            lines += self._set_lines
        return changed

    def _apply_validators(
        self, lines: list[bytes], noted: Noted, method: str, status: int, date: bytes
    ) -> int:
        changed = 0
        if b"etag" in noted:
            if self._etag == "remove":
                changed += drop(lines, noted, b"etag")
            elif self._etag == "mark" and status in _WITH_CONTENT and method in RETRIEVALS:
                changed += _mark_etags(lines, noted)
        if self._last_modified != "keep" and status != PARTIAL_CONTENT:
            changed += drop(lines, noted, b"last-modified")
            if self._last_modified == "date":
                lines.append(b"Last-Modified: " + date)
                changed += 1
        return changed

    def _apply_vary(self, lines: list[bytes], noted: Noted) -> int:
        theirs = noted.get(b"vary")
        if theirs is None:
            lines.append(b"Vary: " + merge_vary((), self._vary))
            return 1
        place, value = theirs[0]
        merged = merge_vary(tuple([value for _, value in theirs]), self._vary)
        if len(theirs) == 1 and merged == value and lines[place]:
            return 0
        drop(lines, noted, b"vary")
        lines[place] = b"Vary: " + merged
        return len(theirs)


def _mark_etags(lines: list[bytes], noted: Noted) -> int:
    tags = noted[b"etag"]
    for place, value in tags:
        line = lines[place]
        if line:  # `Connection` did not name it
            lines[place] = (line[: -len(value)] if value else line) + entity_tags.mark(value)
    return len(tags)


def _with_no_transform(line: bytes) -> bytes:
    return line + b", no-transform" if line[: len(_CACHE_CONTROL)].lower() == _CACHE_CONTROL else line


UNTOUCHED: Final = Treatment()
"""What a response that no rule touches gets."""
