"""A policy applied to a response's head: compiled once, then one pass over the fields.

What no treatment touches leaves as it came: order, spelling and multiplicity of fields, and the place of every line.
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

ETagMode = Literal["one-time", "keep", "remove"]
LastModifiedMode = Literal["date", "keep", "remove"]

AGE: Final = b"age"

_READ_BY_RESPONSES: Final = (b"content-length", b"date")
_CACHE_CONTROL: Final = b"cache-control"


class Treatment:
    """What happens to the fields of a response; immutable, made once for a policy and a set of `Vary` names.

    Args:
        set_fields: written last, in this order, in place of every upstream line of their names. A
            `Cache-Control` keeps the upstream's `no-transform` (RFC 9111 section 5.2.2.6).
        remove: lower-case names; with a leading `*` every name that ends with the rest.
        etag: `one-time` rewrites the tag of a 200 to GET or HEAD.
        last_modified: `date` sets it to the response's `Date`; a 206 keeps its own, as ranges must fit.
        vary: names to merge into `Vary`.
    """

    __slots__ = ("_etag", "_last_modified", "_set_lines", "_table", "_vary")

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
        self._vary = tuple(vary)
        noted = list(_READ_BY_RESPONSES)
        noted += [_CACHE_CONTROL] if any(name.lower() == _CACHE_CONTROL for name, _ in settings) else []
        noted += [AGE] if AGE in removed else []
        noted += [b"etag"] if etag != "keep" else []
        noted += [b"last-modified"] if last_modified != "keep" else []
        noted += [b"vary"] if self._vary else []
        self._table = LineTable(
            noted,
            left_out=[name.lower() for name, _ in settings]
            + [name for name in removed if not name.startswith(b"*")],
            left_out_suffixes=[name[1:] for name in removed if name.startswith(b"*")],
        )

    def walk(self, section: FieldSection) -> tuple[list[bytes], Noted, int]:
        """Have the lines of a response without those that this treatment takes away.

        Returns:
            The lines, the fields that are read here or by the framing, and how many were taken away.
        """
        return self._table.walk(section)

    def apply(self, lines: list[bytes], noted: Noted, method: str, status: int, date: bytes) -> int:
        """Change the lines of a final response as the policy says, `Vary` included.

        Args:
            date: the value of the response's `Date`.

        Returns:
            How many lines were taken away, rewritten or written here.
        """
        changed = len(self._set_lines)
        if self._etag != "keep" and b"etag" in noted:
            changed += self._apply_etag(lines, noted, method, status)
        if self._last_modified != "keep" and status != PARTIAL_CONTENT:
            changed += drop(lines, noted, b"last-modified")
            if self._last_modified == "date":
                lines.append(b"Last-Modified: " + date)
                changed += 1
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

    def _apply_etag(self, lines: list[bytes], noted: Noted, method: str, status: int) -> int:
        if self._etag == "remove":
            return drop(lines, noted, b"etag")
        if status != OK or method not in RETRIEVALS:
            return 0
        for place, value in noted[b"etag"]:
            if not lines[place]:
                continue  # `Connection` named it
            name = lines[place][: -len(value)] if value else lines[place]
            lines[place] = name + entity_tags.make_one_time(value)
        return len(noted[b"etag"])

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


def _with_no_transform(line: bytes) -> bytes:
    return line + b", no-transform" if line[: len(_CACHE_CONTROL)].lower() == _CACHE_CONTROL else line


UNTOUCHED: Final = Treatment()
"""What a response that no rule touches gets."""
