"""The key `methods`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from proxy.message.methods import OVERRIDES
from proxy.rules.keys.facts import Reading, RequestFacts
from proxy.rules.keys.key import Key, RequestKey, Stage


class Methods(RequestKey):
    """Request methods, including one in an `X-HTTP-Method-Override` field or its siblings.

    Args:
        methods: upper case; `GET` implies `HEAD`.
    """

    __slots__ = ("methods",)
    stage: ClassVar[Stage] = "method"

    def __init__(self, methods: Iterable[str]) -> None:
        given = frozenset(methods)
        self.methods = given | {"HEAD"} if "GET" in given else given
        super().__init__("methods", self.methods)

    @property
    def wanted(self) -> str:
        return ", ".join(sorted(self.methods))

    def holds(self, facts: RequestFacts, reading: Reading) -> bool:
        if reading == "any":
            return not self.methods.isdisjoint(facts.methods)
        return facts.methods <= self.methods

    def seen(self, facts: RequestFacts) -> str:
        names = [name.decode() for name in OVERRIDES]
        overrides = [f"{name}: {', '.join(facts.lines[name])}" for name in names if name in facts.lines]
        return "; ".join((facts.method, *overrides))

    def covers_key(self, narrow: Key) -> bool:
        return isinstance(narrow, Methods) and narrow.methods <= self.methods

    def is_apart_from(self, other: Key) -> bool:
        return isinstance(other, Methods) and self.methods.isdisjoint(other.methods)
