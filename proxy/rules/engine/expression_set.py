"""RE2 expressions matched all at once, within bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import re2

from proxy.rules.keys.facts import Pattern, Patterns
from proxy.rules.keys.globs import full_match

# RE2 keeps the states it has met up to this limit, then begins anew. It is raised only as far as it takes to hold
# the expressions themselves: 12 MiB are enough for thousands.
_MEMORY_BYTES: Final = 12 << 20
_MAX_MEMORY_BYTES: Final = 256 << 20
_EVERY_PATH: Final = ".*"


class ExpressionSet:
    """Expressions by the patterns that they stand for."""

    __slots__ = ("_compiled", "_expressions", "_patterns")

    def __init__(self, expressions: Mapping[Pattern, str]) -> None:
        self._expressions = dict(expressions)
        self._patterns = tuple(self._expressions)
        self._compiled = self._compile()

    def __len__(self) -> int:
        return len(self._patterns)

    def match(self, path: str) -> Patterns:
        """Return the patterns whose expressions match the whole path."""
        found = self._compiled.Match(path.encode())
        # RE2 that runs out of memory says "no match", which would leave a rule out. Without the expression for every
        # path, which was added last, it is no answer.
        if found and len(self._patterns) in found:
            return frozenset([self._patterns[i] for i in found if i < len(self._patterns)])
        return frozenset([each for each in self._patterns if full_match(self._expressions[each], path)])

    def _compile(self) -> re2.Set:
        memory_bytes = _MEMORY_BYTES
        while (made := self._compile_within(memory_bytes)) is None and memory_bytes < _MAX_MEMORY_BYTES:
            memory_bytes *= 2
        if made is None:  # an empty set, whose answers lack the expression for every path
            made = re2.Set.FullMatchSet()
            made.Compile()
        return made

    def _compile_within(self, memory_bytes: int) -> re2.Set | None:
        options = re2.Options()
        options.max_mem = memory_bytes
        options.dot_nl = True
        options.log_errors = False
        compiled = re2.Set.FullMatchSet(options)
        for pattern in self._patterns:
            compiled.Add(self._expressions[pattern])
        compiled.Add(_EVERY_PATH)
        try:
            compiled.Compile()
        except re2.error:  # the expressions take more
            return None
        return compiled if compiled.Match(b"/") else None
