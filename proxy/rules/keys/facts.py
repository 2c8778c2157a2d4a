"""What keys are asked about: a request in all its readings, and the head of a response.

Servers and apps differ on what a request means: on the path that an odd target spells, on which of two equal fields
counts. So each thing that a key reads has one or more readings, and a condition holds in `any` or in `every` one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from proxy.message.fields import Field
from proxy.message.status import NOT_MODIFIED

Reading = Literal["any", "every"]

Subject = str
"""What patterns are compared with: `PATH`, or what `field_subject` makes of a field's name."""

Pattern = str
"""A kind and a text: `glob /api/**` and `regex /a.*` on a path, `value *json*` and `member x` on a field's value."""

Patterns = frozenset[Pattern]

PATH: Final = "path"
PRESENT: Final = "present"
ABSENT: Final = "absent"

NO_PATTERNS: Final[Patterns] = frozenset()

_TYPE: Final = b"content-type"
_TYPE_SIZE: Final = len(_TYPE)
_DISPOSITION: Final = b"content-disposition"
_DISPOSITION_SIZE: Final = len(_DISPOSITION)


def field_subject(name: str) -> Subject:
    """Return the subject of a request field."""
    return f"field {name.lower()}"


class Hits:
    """The patterns that match one subject.

    Attributes:
        of_any: those that match some reading of it.
        of_every: those that match all of them.
    """

    __slots__ = ("of_any", "of_every")

    def __init__(self, of_any: Patterns, of_every: Patterns) -> None:
        self.of_any = of_any
        self.of_every = of_every

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hits) and self.of_any == other.of_any and self.of_every == other.of_every

    def __hash__(self) -> int:
        return hash((self.of_any, self.of_every))


_NOT_THERE: Final = Hits(frozenset((ABSENT,)), frozenset((ABSENT,)))


def merge(hits: Sequence[Patterns]) -> Hits:
    """Merge the patterns that match each reading of a subject; there is at least one reading."""
    if len(hits) == 1:
        return Hits(hits[0], hits[0])
    return Hits(NO_PATTERNS.union(*hits), frozenset.intersection(*hits))


class RequestFacts:
    """A request as keys see it.

    Attributes:
        method: as sent; `methods` are all that it may mean to the app, by a field that overrides it.
        hits: for each subject the patterns that match it; no entry where it is absent.
        target: the request target, as sent.
        spellings: of the path, each with the patterns that match it. Empty where nobody explains.
        lines: the lines of each field that rules read, by lower-case name; no entry when absent.
    """

    __slots__ = ("hits", "lines", "method", "methods", "spellings", "target")

    def __init__(
        self,
        *,
        method: str,
        methods: frozenset[str],
        hits: Mapping[Subject, Hits],
        target: bytes = b"",
        spellings: Sequence[tuple[str, Patterns]] = (),
        lines: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.method = method
        self.methods = methods
        self.hits = hits
        self.target = target
        self.spellings = spellings
        self.lines = lines or {}

    def hits_of(self, subject: Subject, reading: Reading) -> Patterns:
        """Return the patterns that match a subject in this reading."""
        hits = self.hits.get(subject, _NOT_THERE)
        return hits.of_any if reading == "any" else hits.of_every


ResponseKind = tuple[int, tuple[bytes, ...], tuple[bytes, ...]]
"""All that keys read in a response's head: its status, the lines of `Content-Type`, those of `Content-Disposition`."""


def kind_of(status: int, fields: Iterable[Field]) -> ResponseKind:
    """Take what keys read out of a response's head."""
    types: tuple[bytes, ...] = ()
    dispositions: tuple[bytes, ...] = ()
    for name, value in fields:
        size = len(name)
        if size == _TYPE_SIZE:
            if name.lower() == _TYPE:
                types += (value,)
        elif size == _DISPOSITION_SIZE and name.lower() == _DISPOSITION:
            dispositions += (value,)
    return status, types, dispositions


class ResponseFacts:
    """A response's head as keys see it.

    A 304 renews the head of a successful response that a cache has stored (RFC 9111 section 4.3.4), and mostly says
    neither its status nor its type. What it leaves out is unknown: that holds in the reading `any`, and not in `every`.

    Attributes:
        kind: what it is made of.
        content_types: media types in lower case without parameters: of each line, and of each member where lines
            were joined into one (RFC 9110 section 5.3).
        dispositions: what each `Content-Disposition` says before its parameters, in lower case.
    """

    __slots__ = ("content_types", "dispositions", "is_renewal", "kind", "status")

    def __init__(self, kind: ResponseKind) -> None:
        self.kind = kind
        self.status, types, dispositions = kind
        self.is_renewal = self.status == NOT_MODIFIED
        self.content_types = [_before_parameters(each) for value in types for each in value.split(b",")]
        self.dispositions = [_before_parameters(value) for value in dispositions]


def _before_parameters(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()
