"""The keys `paths` and `path_regexes`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

from proxy.rules.keys.facts import PATH, Patterns, Reading, RequestFacts, Subject
from proxy.rules.keys.glob_containment import glob_covers, is_every_path
from proxy.rules.keys.key import Conditions, Key, RequestKey, Stage


class PathKey(RequestKey):
    """Patterns on the decoded path, one of which must match.

    An enforcing rule takes any spelling of the path, a weakening one needs one pattern that matches all of them.
    """

    __slots__ = ("_patterns", "texts")
    stage: ClassVar[Stage] = "path"

    def __init__(self, name: str, kind: str, texts: tuple[str, ...]) -> None:
        super().__init__(name, texts)
        self.texts = texts
        self._patterns = frozenset(f"{kind} {text}" for text in texts)

    @property
    def wanted(self) -> str:
        return ", ".join(self.texts)

    @property
    def patterns(self) -> Mapping[Subject, Patterns]:
        return {PATH: self._patterns}

    def holds(self, facts: RequestFacts, reading: Reading) -> bool:
        return not self._patterns.isdisjoint(facts.hits_of(PATH, reading))

    def seen(self, facts: RequestFacts) -> str:
        return facts.target.partition(b"?")[0].decode("utf-8", "backslashreplace")

    def note(self, facts: RequestFacts, reading: Reading) -> str:
        if not facts.spellings:
            return ""
        sent = facts.spellings[0][0]
        if reading == "every":
            missed = [path for path, hits in facts.spellings if self._patterns.isdisjoint(hits)]
            if missed and missed[0] != sent:
                return f"not for the spelling {missed[0]}, and it must hold for all"
            return ""
        matched = [(path, self._patterns & hits) for path, hits in facts.spellings]
        path, patterns = next(((path, hits) for path, hits in matched if hits), (sent, self._patterns))
        if path == sent:
            return ""
        text = next(text for text in self.texts if any(each.endswith(f" {text}") for each in patterns))
        return f"{text} matches the spelling {path}"


class Paths(PathKey):
    """Globs on the path."""

    __slots__ = ()

    def __init__(self, globs: tuple[str, ...]) -> None:
        super().__init__("paths", "glob", globs)

    @property
    def is_every_path(self) -> bool:
        """Some glob matches every path."""
        return any(map(is_every_path, self.texts))

    def covers(self, narrow: Conditions) -> bool:
        return self.is_every_path or super().covers(narrow)

    def covers_key(self, narrow: Key) -> bool:
        return isinstance(narrow, Paths) and _all_covered(self.texts, narrow.texts)


class PathRegexes(PathKey):
    """RE2 expressions on the whole path."""

    __slots__ = ()

    def __init__(self, regexes: tuple[str, ...]) -> None:
        super().__init__("path_regexes", "regex", regexes)

    def covers_key(self, narrow: Key) -> bool:
        return isinstance(narrow, PathRegexes) and set(narrow.texts) <= set(self.texts)


@lru_cache(maxsize=4096)  # lint asks again and again about the same pairs
def _all_covered(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    return all(any(glob_covers(glob, each) for glob in wide) for each in narrow)
