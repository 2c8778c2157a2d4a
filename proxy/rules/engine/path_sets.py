"""Path patterns matched all at once, so that a thousand of them cost what one costs."""

from __future__ import annotations

import re
from typing import Final

import re2

from proxy.rules.engine.path_tree import PathTree
from proxy.rules.keys.facts import Pattern, Patterns
from proxy.rules.keys.globs import full_match, glob_matches, longest_literal, path_glob

# RE2 keeps the states it has met up to this limit, then begins anew. It is raised only as far as it takes to hold
# the expressions themselves: 16 MiB are enough for some 10,000.
_MEMORY_BYTES: Final = 16 << 20
_MAX_MEMORY_BYTES: Final = 256 << 20
# Each byte of a path never seen before may make a state that stands for all expressions at once: with 1,000 globs and a
# path of 4,000 bytes that took a second. So of many globs each is looked for by its longest literal piece, and only
# regular expressions are left to the set, as long as this many bytes times expressions are not too many.
_MAX_GLOBS_IN_SET: Final = 64
_MAX_WORK: Final = 200_000
_EVERY_PATH: Final = ".*"
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
        self._compiled: re2.Set | None = None
        self._compiled_patterns: tuple[Pattern, ...] = ()
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
        self._tree = self._compiled = None
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
            if len(self._globs) > _MAX_GLOBS_IN_SET:
                self._pieces = {pattern: longest_literal(glob) for glob, pattern in self._globs.items()}
        hits = self._tree.match(path)
        if hits is not None:
            for directory, pattern in self._inside:
                if directory in path:
                    hits |= {pattern}
            return hits
        hits = self._answers.get(path)
        if hits is None and len(path) * (len(self._expressions) - len(self._pieces)) <= _MAX_WORK:
            return self._ask(path)
        return hits

    def _ask(self, path: str) -> Patterns | None:
        """Have RE2 tell, and remember what it says."""
        found = (self._compiled or self._compile()).Match(path.encode())
        # RE2 that runs out of memory says "no match", which would leave a rule out. Without the expression for every
        # path, which was added last, it is no answer.
        if found and len(self._compiled_patterns) in found:
            hits = frozenset([self._compiled_patterns[i] for i in found if i < len(self._compiled_patterns)])
        else:
            hits = frozenset(
                [
                    pattern
                    for pattern in self._compiled_patterns
                    if full_match(self._expressions[pattern], path)
                ]
            )
        if self._pieces:
            possible = [pattern for pattern, piece in self._pieces.items() if piece in path]
            if len(path) * len(possible) > _MAX_WORK:
                return None
            hits |= {pattern for pattern in possible if glob_matches(pattern.partition(" ")[2], path)}
        if len(path) <= _MAX_REMEMBERED:
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[path] = hits
        return hits

    def _compile(self) -> re2.Set:
        self._compiled_patterns = tuple(each for each in self._expressions if each not in self._pieces)
        memory_bytes = _MEMORY_BYTES
        while (made := self._compile_within(memory_bytes)) is None and memory_bytes < _MAX_MEMORY_BYTES:
            memory_bytes *= 2
        if made is None:  # an empty set, whose answers lack the expression for every path
            made = re2.Set.FullMatchSet()
            made.Compile()
        self._compiled = made
        return made

    def _compile_within(self, memory_bytes: int) -> re2.Set | None:
        options = re2.Options()
        options.max_mem = memory_bytes
        options.dot_nl = True
        options.log_errors = False
        compiled = re2.Set.FullMatchSet(options)
        for pattern in self._compiled_patterns:
            compiled.Add(self._expressions[pattern])
        compiled.Add(_EVERY_PATH)
        try:
            compiled.Compile()
        except re2.error:  # the expressions take more
            return None
        return compiled if compiled.Match(b"/") else None
