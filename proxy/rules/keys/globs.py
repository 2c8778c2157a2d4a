"""The two kinds of glob: on paths (`*` within a segment, `**` across segments), and on values (`*` any text)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import re2

_PARTS = re.compile(r"/\*\*(?=/)|\*\*|\*|\?|[^*?]+?(?=/\*\*/|[*?]|$)", re.DOTALL)

# Of one glob, for cached states; RE2 works without a cache where this is too little.
_GLOB_MEMORY_BYTES: Final = 1 << 17


class PatternError(ValueError):
    """A glob or a regular expression that cannot be used; its text says why."""


def path_glob(glob: str) -> str:
    """Translate a glob on a path. `/**/` also stands for a single `/`.

    Raises:
        PatternError: it does not begin with `/` or `*`, or has a run of three stars.
    """
    if not glob.startswith(("/", "*")):
        raise PatternError("a path begins with '/'")
    if "***" in glob:
        raise PatternError("'***' means nothing; '*' stays within a segment, '**' crosses segments")
    return "".join(_translate(part) for part in _PARTS.findall(glob))


def longest_literal(glob: str) -> str:
    """Return a text that every path has which the glob matches; empty where there is none."""
    return max(re.split(r"/\*\*/|[*?]+", glob), key=len)


@lru_cache(maxsize=4096)
def _compiled_glob(glob: str) -> re2._Regexp[str]:
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    options.max_mem = _GLOB_MEMORY_BYTES
    return re2.compile(path_glob(glob), options)


def glob_matches(glob: str, path: str) -> bool:
    """Tell whether a glob on a path matches the whole path."""
    return _compiled_glob(glob).fullmatch(path) is not None


def check_regex(expression: str) -> str:
    """Return an expression that RE2 accepts.

    Raises:
        PatternError: it does not; the text is RE2's.
    """
    try:
        compile_quietly(expression)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        raise PatternError(detail.decode() if isinstance(detail, bytes) else str(detail)) from error
    return expression


def compile_quietly(expression: str) -> re2._Regexp[str]:
    """Compile an expression; RE2 writes nothing to standard error."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    return re2.compile(expression, options)


def _translate(part: str) -> str:
    match part:
        case "/**":  # zero or more whole segments; the next `/` is a separate part
            return "(?:/.*)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _:
            return str(re2.escape(part))


def full_match(expression: str, text: str) -> bool:
    """Tell whether an RE2 expression matches the whole text."""
    return compile_quietly(expression).fullmatch(text) is not None


class ValueGlob:
    """A glob on a value: `*` any run of characters, `?` one.

    Text is compared piece by piece where there is no `?`: that costs less than a state machine, and no memory.

    Args:
        ignores_case: compare in lower case; a value in latin-1 folds like that.
    """

    __slots__ = ("_expression", "_ignores_case", "_pieces", "literal")

    def __init__(self, glob: str, *, ignores_case: bool = True) -> None:
        folded = glob.lower() if ignores_case else glob
        self._ignores_case = ignores_case
        self._pieces = folded.split("*")
        self._expression = value_expression(folded) if "?" in folded else ""
        self.literal: str | None = None if has_wildcard(folded) else folded

    def matches(self, value: str) -> bool:
        """Tell whether the glob matches the whole value."""
        return self.matches_folded(value.lower() if self._ignores_case else value)

    def matches_folded(self, value: str) -> bool:
        """Like `matches`, for a value that is already in lower case if case is ignored."""
        if self._expression:
            return full_match(self._expression, value)
        first, last = self._pieces[0], self._pieces[-1]
        if len(self._pieces) == 1:
            return value == first
        place, end = len(first), len(value) - len(last)
        if place > end or not value.startswith(first) or not value.endswith(last):
            return False
        for piece in self._pieces[1:-1]:
            place = value.find(piece, place, end)
            if place < 0:
                return False
            place += len(piece)
        return True


def has_wildcard(glob: str) -> bool:
    """Tell whether a glob has a `*` or a `?`."""
    return "*" in glob or "?" in glob


def value_expression(glob: str) -> str:
    """Translate a glob on a value into an RE2 expression."""
    return "".join({"*": ".*", "?": "."}.get(part, re2.escape(part)) for part in re.split(r"([*?])", glob))


@lru_cache(maxsize=1024)
def _value_glob(glob: str) -> ValueGlob:
    return ValueGlob(glob)


def value_matches(glob: str, value: str) -> bool:
    """Tell whether a glob matches a whole value, without regard to case."""
    return _value_glob(glob).matches(value)
