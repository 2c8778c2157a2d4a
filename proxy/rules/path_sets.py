"""Path expressions matched all at once by RE2, so that a thousand of them cost what one costs."""

from __future__ import annotations

from typing import Final

import re2

from proxy.rules.globs import full_match

_MEMORY_BYTES: Final = 256 << 20  # a ceiling: RE2 takes what its states need
_EVERY_PATH: Final = ".*"


class PathSet:
    """Expressions, numbered in the order in which they were added; number 0 matches every path."""

    def __init__(self) -> None:
        # RE2 that runs out of memory says "no match", which would leave a rule out. Without number 0 it is no answer.
        self._numbers: dict[str, int] = {_EVERY_PATH: 0}
        self._compiled: re2.Set | None = None

    def add(self, expression: str) -> int:
        """Add an expression, unless it is there already; return its number."""
        self._compiled = None
        return self._numbers.setdefault(expression, len(self._numbers))

    def match(self, path: str) -> frozenset[int]:
        """Return the numbers of the expressions that match the whole path."""
        if self._compiled is None:
            self._compiled = self._compile()
        found = self._compiled.Match(path.encode())
        if not found or 0 not in found:
            return frozenset(i for expression, i in self._numbers.items() if full_match(expression, path))
        return frozenset(found)

    def _compile(self) -> re2.Set:
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.dot_nl = True
        options.log_errors = False
        compiled = re2.Set.FullMatchSet(options)
        for expression in self._numbers:
            compiled.Add(expression)
        try:
            compiled.Compile()
        except re2.error:  # too much for the ceiling: an empty set, whose answers lack number 0
            compiled = re2.Set.FullMatchSet()
            compiled.Compile()
        return compiled
