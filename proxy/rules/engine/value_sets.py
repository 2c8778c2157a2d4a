"""All patterns on the value of one request field, asked at once: a thousand literals cost what one costs.

RE2 would answer a thousand globs in one pass too, but each new value makes new states: a value of 100 bytes took 2 ms
and one of 60 KiB a second, where comparing piece by piece takes 0.1 ms for a thousand globs.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from proxy.rules.keys.facts import ABSENT, NO_PATTERNS, PRESENT, Hits, Pattern, Patterns
from proxy.rules.keys.globs import ValueGlob

MAX_COMPARED: Final = 8192
"""Characters of a value. Servers refuse longer lines (nginx and httpd at 8 KiB, gunicorn at 8,190 bytes)."""

MAX_MEMBERS: Final = 64
"""Of a list. jQuery and its kin send one."""


class ValueSet:
    """Patterns on one value: `value glob`, `member glob` (of a comma-separated list), `present` and `absent`.

    Args:
        ignores_case: compare in lower case.
    """

    __slots__ = ("_ignores_case", "_members", "_values")

    def __init__(self, *, ignores_case: bool = True) -> None:
        self._ignores_case = ignores_case
        self._values = _Globs()
        self._members = _Globs()

    def add(self, pattern: Pattern) -> None:
        """Add a pattern, unless it is there already."""
        kind, _, glob = pattern.partition(" ")
        if kind in ("value", "member"):
            kept = self._values if kind == "value" else self._members
            kept.add(pattern, ValueGlob(glob, ignores_case=self._ignores_case))

    def all(self) -> Patterns:
        """Return every pattern on what is there."""
        return _PRESENT.union(self._values.all(), self._members.all())

    def match_all(self, readings: Sequence[str | None], wanted: AbstractSet[Pattern] | None = None) -> Hits:
        """Return what matches in any and in every reading of the value; there is at least one reading."""
        if len(readings) == 1:
            sure, possible = self.match(readings[0], wanted)
            return Hits(possible, sure)
        matched = [self.match(reading, wanted) for reading in readings]
        possible = NO_PATTERNS.union(*[each for _, each in matched])
        return Hits(possible, frozenset.intersection(*[each for each, _ in matched]))

    def match(
        self, value: str | None, wanted: AbstractSet[Pattern] | None = None
    ) -> tuple[Patterns, Patterns]:
        """Return the patterns that match a value, and those that may match it.

        What is too long to be compared may match anything: a rule that protects then holds, one that weakens does not.

        Args:
            value: `None` when the field is absent.
            wanted: where only few patterns matter, these; others need not be among those that are returned.
        """
        if value is None:
            return _ABSENT, _ABSENT
        if len(value) > MAX_COMPARED:
            return _PRESENT, self.all()
        folded = value.lower() if self._ignores_case else value
        found = {PRESENT}
        self._values.match(folded, found, wanted)
        if not self._members.is_empty:
            members = folded.split(",")
            if len(members) > MAX_MEMBERS:
                return frozenset(found), frozenset(found.union(self._members.all()))
            for member in members:
                self._members.match(member.strip(" \t"), found, wanted)
        matched = frozenset(found)
        return matched, matched


_ABSENT: Final[Patterns] = frozenset((ABSENT,))
_PRESENT: Final[Patterns] = frozenset((PRESENT,))


class _Globs:
    """Globs by what it takes to compare them."""

    __slots__ = ("_literals", "_others")

    def __init__(self) -> None:
        self._literals: dict[str, list[Pattern]] = {}
        self._others: dict[Pattern, ValueGlob] = {}

    @property
    def is_empty(self) -> bool:
        return not self._literals and not self._others

    def all(self) -> set[Pattern]:
        """Return every pattern."""
        return {pattern for patterns in self._literals.values() for pattern in patterns}.union(self._others)

    def add(self, pattern: Pattern, glob: ValueGlob) -> None:
        if glob.literal is None:
            self._others[pattern] = glob
        else:
            patterns = self._literals.setdefault(glob.literal, [])
            if pattern not in patterns:
                patterns.append(pattern)

    def match(self, value: str, found: set[Pattern], wanted: AbstractSet[Pattern] | None) -> None:
        """Add the patterns that match a value."""
        found.update(self._literals.get(value, ()))
        for pattern in self._others if wanted is None else wanted:
            glob = self._others.get(pattern)
            if glob is not None and glob.matches_folded(value):
                found.add(pattern)
