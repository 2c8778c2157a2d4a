"""Path patterns matched all at once, so that a thousand of them cost what one costs."""

from __future__ import annotations

import re
from typing import Final

from proxy.rules.engine.expression_set import ExpressionSet
from proxy.rules.engine.path_tree import PathTree
from proxy.rules.keys.facts import Pattern, Patterns
from proxy.rules.keys.globs import glob_matches, longest_literal, path_glob

# Each byte of a path never seen before may make a state that stands for all expressions at once: with 1,000 globs and a
# path of 4,000 bytes that took a second. So where there are many, and the path is long, each glob is looked for by its
# longest literal piece, and only regular expressions are asked at once, unless bytes times expressions are too many.
_MANY_GLOBS: Final = 64
_LONG_PATH: Final = 256
_MAX_WORK: Final = 200_000
# A directory of this name anywhere: the one wildcard that most files have, and a search costs less than RE2.
_INSIDE: Final = re.compile(r"/\*\*/[^*?]+/\*\*")
_MAX_INSIDE: Final = 8
_MAX_ANSWERS: Final = 1024
_MAX_REMEMBERED: Final = 1024  # characters of a path


class PathSet:
    """Patterns on paths: `glob /api/**` and `regex /a.*`."""

    def __init__(self) -> None:
        self._globs: dict[str, Pattern] = {}
        self._expressions: dict[Pattern, str] = {}
        self._pieces: dict[Pattern, str] = {}  # the longest literal of each glob, where there are many
        self._inside: list[tuple[str, Pattern]] = []  # what `/**/static/**` looks for
        self._has_regexes = False
        self._tree: PathTree | None = None
        self._all: ExpressionSet | None = None
        self._regexes: ExpressionSet | None = None
        self._answers: dict[str, Patterns] = {}  # of RE2, emptied when full

    def add(self, pattern: Pattern) -> None:
        """Add a pattern, unless it is there already."""
        kind, _, text = pattern.partition(" ")
        if kind == "glob":
            self._globs[text] = pattern
            self._expressions[pattern] = path_glob(text)
        else:
            self._has_regexes = True
            self._expressions[pattern] = text
        self._tree = self._all = self._regexes = None
        self._answers.clear()

    def all(self) -> Patterns:
        """Return every pattern."""
        return frozenset(self._expressions)

    def match(self, path: str) -> Patterns | None:
        """Return all that matches the whole path; `None` where it would take too long to find out."""
        if self._tree is None:
            inside = {glob: pattern for glob, pattern in self._globs.items() if _INSIDE.fullmatch(glob)}
            self._inside = [(glob[3:-2], pattern) for glob, pattern in inside.items()]
            others = [
                each for each in self._globs.items() if each[0] not in inside or len(inside) > _MAX_INSIDE
            ]
            self._tree = PathTree(others, is_partial=self._has_regexes)
            if len(self._globs) > _MANY_GLOBS:
                self._pieces = {pattern: longest_literal(glob) for glob, pattern in self._globs.items()}
        hits = self._tree.match(path)
        if hits is not None:
            for directory, pattern in self._inside:
                if directory in path:
                    hits |= {pattern}
            return hits
        hits = self._answers.get(path)
        return self._ask(path) if hits is None else hits

    def _ask(self, path: str) -> Patterns | None:
        """Have RE2 tell, and remember what it says."""
        if len(path) > _LONG_PATH and (self._pieces or len(path) * len(self._expressions) > _MAX_WORK):
            hits = self._ask_about_long(path)
        else:
            if self._all is None:
                self._all = ExpressionSet(self._expressions)
            hits = self._all.match(path)
        if hits is not None and len(path) <= _MAX_REMEMBERED:
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[path] = hits
        return hits

    def _ask_about_long(self, path: str) -> Patterns | None:
        if self._regexes is None:
            self._regexes = ExpressionSet(
                {p: e for p, e in self._expressions.items() if p not in self._pieces}
            )
        possible = [pattern for pattern, piece in self._pieces.items() if piece in path]
        if len(path) * max(len(possible), len(self._regexes)) > _MAX_WORK:
            return None
        return self._regexes.match(path).union(
            [pattern for pattern in possible if glob_matches(pattern.partition(" ")[2], path)]
        )
