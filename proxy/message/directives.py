"""Cache-Control as directives, RFC 9111 section 5.2, read as the grammar says and not by substring."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from proxy.message.fields import REMEMBERED

_DIRECTIVE = re.compile(
    rb"""[ \t,]*                                   # empty list members are allowed, RFC 9110 section 5.6.1
    (?P<name>[!\#$%&'*+\-.^_`|~0-9A-Za-z]+)
    (?:[ \t]*=[ \t]*
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)"
          | (?P<token>[^",\s]*) )
    )?
    (?P<rest>[^,]*)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Directive:
    """One cache directive.

    Attributes:
        name: lower case.
        argument: without quotes and escapes, `None` when there is none.
        rest: what stands between its end and the next comma, and belongs to no directive; empty as a rule.
    """

    name: str
    argument: str | None = None
    rest: str = ""


def parse_directives(values: Iterable[bytes]) -> tuple[Directive, ...]:
    """Read the directives of all `Cache-Control` lines, in order, duplicates kept.

    What cannot be read is skipped up to the next comma: RFC 9111 section 5.2.3 tells caches to ignore
    what they do not understand.
    """
    directives: list[Directive] = []
    for value in values:
        position = 0
        while position < len(value):
            match = _DIRECTIVE.match(value, position)
            if match is None:
                comma = value.find(b",", position)
                position = len(value) if comma < 0 else comma + 1
                continue
            directives.append(_directive(match))
            position = max(match.end(), position + 1)
    return tuple(directives)


@lru_cache(REMEMBERED)
def has_no_transform(*values: bytes) -> bool:
    """Tell whether a `no-transform` directive is among these `Cache-Control` lines."""
    return any(directive.name == "no-transform" for directive in parse_directives(values))


def _directive(match: re.Match[bytes]) -> Directive:
    name = match["name"].decode("ascii").lower()
    rest = match["rest"].strip(b" \t").decode("latin-1")
    if match["quoted"] is not None:
        unescaped = re.sub(rb"\\(.)", rb"\1", match["quoted"], flags=re.DOTALL)
        return Directive(name, unescaped.decode("latin-1"), rest=rest)
    token = match["token"]
    return Directive(name, None if token is None else token.decode("latin-1"), rest=rest)
