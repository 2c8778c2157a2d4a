"""The base of keys on one named value: globs on it, or whether it is present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.rules.keys.facts import ABSENT, PRESENT, Patterns, Reading, RequestFacts, Subject
from proxy.rules.keys.globs import ValueGlob, has_wildcard
from proxy.rules.keys.key import Key, RequestKey

Wanted = tuple[str, ...] | bool
"""Globs, any of which may match; or whether the value is there at all."""


class ValueKey(RequestKey):
    """A condition on one named value.

    Args:
        name: see `Key`.
        subject: what the value is called in `facts.hits`.
        wanted: see `Wanted`.
        kinds: of patterns to make of each glob, see `facts.Pattern`.
        ignores_case: compare without regard to case.
    """

    __slots__ = ("_ignores_case", "_patterns", "globs", "presence", "subject")

    def __init__(
        self,
        name: str,
        subject: Subject,
        wanted: Wanted,
        kinds: Sequence[str] = ("value",),
        *,
        ignores_case: bool = True,
    ) -> None:
        super().__init__(name, (subject, wanted))
        self.subject = subject
        self.presence = wanted if isinstance(wanted, bool) else None
        self.globs = wanted if isinstance(wanted, tuple) else ()
        self._ignores_case = ignores_case
        self._patterns: Patterns = frozenset(f"{kind} {glob}" for kind in kinds for glob in self.globs)
        if self.presence is not None:
            self._patterns = frozenset((PRESENT if self.presence else ABSENT,))

    @property
    def wanted(self) -> str:
        return ", ".join(self.globs) if self.presence is None else PRESENT if self.presence else ABSENT

    @property
    def patterns(self) -> Mapping[Subject, Patterns]:
        return {self.subject: self._patterns}

    def holds(self, facts: RequestFacts, reading: Reading) -> bool:
        return not self._patterns.isdisjoint(facts.hits_of(self.subject, reading))

    def covers_key(self, narrow: Key) -> bool:
        if not isinstance(narrow, ValueKey) or narrow.subject != self.subject:
            return False
        if self.presence is not None or narrow.presence is not None:
            return self.presence is (narrow.presence is not False)
        return all(
            glob in self.globs or (not has_wildcard(glob) and self._takes(glob)) for glob in narrow.globs
        )

    def _takes(self, value: str) -> bool:
        return any(ValueGlob(glob, ignores_case=self._ignores_case).matches(value) for glob in self.globs)
