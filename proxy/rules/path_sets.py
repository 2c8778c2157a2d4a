"""Path expressions matched all at once by RE2, so that a thousand of them cost what one costs."""

from __future__ import annotations

from typing import Final

import re2

from proxy.rules.globs import full_match

_MEMORY_BYTES: Final = 256 << 20  # a ceiling: RE2 takes what its states need


class PathSet:
    """Expressions, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self._expressions: list[str] = []
        self._compiled: re2.Set | None = None

    def add(self, expression: str) -> int:
        """Add an expression, unless it is there already; return its number."""
        if expression in self._expressions:
            return self._expressions.index(expression)
        self._compiled = None
        self._expressions.append(expression)
        return len(self._expressions) - 1

    def match(self, path: str) -> frozenset[int]:
        """Return the numbers of the expressions that match the whole path."""
        if not self._expressions:
            return frozenset()
        if self._compiled is None:
            self._compiled = self._compile()
        found = self._compiled.Match(path.encode())
        canary = len(self._expressions)
        if not found or canary not in found:
            # RE2 ran out of memory: a set that fails says "no match", which would leave a rule out.
            return frozenset(
                i for i, expression in enumerate(self._expressions) if full_match(expression, path)
            )
        return frozenset(found) - {canary}

    def _compile(self) -> re2.Set:
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.dot_nl = True
        options.log_errors = False
        compiled = re2.Set.FullMatchSet(options)
        for expression in (*self._expressions, ".*"):
            compiled.Add(expression)
        try:
            compiled.Compile()
        except re2.error:  # too much for the ceiling: an empty set, whose answers lack the canary
            compiled = re2.Set.FullMatchSet()
            compiled.Compile()
        return compiled
