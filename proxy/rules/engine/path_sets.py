"""Path expressions matched all at once, so that a thousand of them cost what one costs."""

from __future__ import annotations

from typing import Final

import re2

from proxy.rules.engine.globs import full_match, path_glob
from proxy.rules.engine.path_tree import Numbers, PathTree

_MEMORY_BYTES: Final = 256 << 20  # a ceiling: RE2 takes what its states need
_EVERY_PATH: Final = ".*"
_MAX_ANSWERS: Final = 1024
_MAX_REMEMBERED: Final = 1024  # characters of a path


class PathSet:
    """Globs and RE2 expressions, numbered in the order in which they were added; number 0 matches every path."""

    def __init__(self) -> None:
        # RE2 that runs out of memory says "no match", which would leave a rule out. Without number 0 it is no answer.
        self._numbers: dict[str, int] = {_EVERY_PATH: 0}
        self._globs: dict[str, int] = {}
        self._has_regexes = False
        self._tree: PathTree | None = None
        self._compiled: re2.Set | None = None
        self._answers: dict[str, Numbers] = {}  # of RE2, emptied when full

    def add_glob(self, glob: str) -> int:
        """Add a glob, unless it is there already; return its number."""
        number = self._globs[glob] = self._add(path_glob(glob))
        return number

    def add_regex(self, expression: str) -> int:
        """Add an expression, unless it is there already; return its number."""
        self._has_regexes = True
        return self._add(expression)

    def match(self, path: str) -> Numbers:
        """Return the numbers of all that matches the whole path."""
        if self._tree is None:
            self._tree = PathTree(self._globs.items(), (0,), is_partial=self._has_regexes)
        hits = self._tree.match(path)
        if hits is None:
            hits = self._answers.get(path)
        return self._ask(path) if hits is None else hits

    def _add(self, expression: str) -> int:
        self._tree = self._compiled = None
        self._answers.clear()
        return self._numbers.setdefault(expression, len(self._numbers))

    def _ask(self, path: str) -> Numbers:
        """Have RE2 tell, and remember what it says."""
        if self._compiled is None:
            self._compiled = self._compile()
        found = self._compiled.Match(path.encode())
        if found and 0 in found:
            hits = frozenset(found)
        else:
            hits = frozenset(i for expression, i in self._numbers.items() if full_match(expression, path))
        if len(path) <= _MAX_REMEMBERED:
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[path] = hits
        return hits

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
