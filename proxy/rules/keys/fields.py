"""The keys that read request fields: `headers`, `x_requested_with` and `script_request`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.rules.keys.facts import ABSENT, Patterns, Reading, RequestFacts, Subject, field_subject
from proxy.rules.keys.key import Conditions, Key, RequestKey
from proxy.rules.keys.values import ValueKey, Wanted

X_REQUESTED_WITH: Final = "X-Requested-With"
SEC_FETCH_DEST: Final = "Sec-Fetch-Dest"
ASK_FOR_SCRIPTS: Final = "script_request: true"


class FieldKey(ValueKey):
    """A condition on one request field.

    Args:
        field_name: as the author spelt it; this spelling goes into `Vary`.
        wanted: globs without regard to case, or whether the field is there.
        by_member: compare each member of a comma-separated list, too.
    """

    __slots__ = ("by_member", "field_name")

    def __init__(self, field_name: str, wanted: Wanted, *, by_member: bool = False) -> None:
        name = "x_requested_with" if by_member else f"headers.{field_name}"
        kinds = ("value", "member") if by_member else ("value",)
        super().__init__(name, field_subject(field_name), wanted, kinds)
        self.field_name = field_name
        self.by_member = by_member

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.field_name,)

    def seen(self, facts: RequestFacts) -> str:
        return _seen(facts, self.field_name)

    def covers_key(self, narrow: Key) -> bool:
        if isinstance(narrow, FieldKey) and narrow.by_member and not self.by_member and narrow.globs:
            return self.presence is True
        return super().covers_key(narrow)

    @property
    def asks_for_ajax_alone(self) -> bool:
        """Only requests of jQuery and similar libraries can match."""
        is_named = self.field_name.lower() == X_REQUESTED_WITH.lower() and bool(self.globs)
        return is_named and all(glob.lower() == "xmlhttprequest" for glob in self.globs)


class ScriptRequest(RequestKey):
    """Whether a script sent the request: jQuery and similar libraries send `X-Requested-With`, browsers `Sec-Fetch-Dest`."""

    __slots__ = ("is_wanted",)

    def __init__(self, *, is_wanted: bool) -> None:
        super().__init__("script_request", is_wanted)
        self.is_wanted = is_wanted

    @property
    def wanted(self) -> str:
        return "true" if self.is_wanted else "false"

    @property
    def reads(self) -> tuple[str, ...]:
        return X_REQUESTED_WITH, SEC_FETCH_DEST

    @property
    def patterns(self) -> Mapping[Subject, Patterns]:
        return _SAYS_SCRIPT

    def holds(self, facts: RequestFacts, reading: Reading) -> bool:
        if self.is_wanted:
            return _says_script(facts, reading)
        return not _says_script(facts, "every" if reading == "any" else "any")

    def seen(self, facts: RequestFacts) -> str:
        return "; ".join(f"{name}: {_seen(facts, name)}" for name in self.reads)

    def covers(self, narrow: Conditions) -> bool:
        asks = self.is_wanted and any(key.asks_for_ajax_alone for key in narrow.all(FieldKey))
        return asks or super().covers(narrow)


_SAYS_SCRIPT: Final[Mapping[Subject, Patterns]] = {
    field_subject(X_REQUESTED_WITH): frozenset(("member XMLHttpRequest",)),
    field_subject(SEC_FETCH_DEST): frozenset(("value empty",)),
}


def _says_script(facts: RequestFacts, reading: Reading) -> bool:
    return any(
        not patterns.isdisjoint(facts.hits_of(subject, reading)) for subject, patterns in _SAYS_SCRIPT.items()
    )


def _seen(facts: RequestFacts, name: str) -> str:
    lines = facts.lines.get(name.lower())
    return ABSENT if lines is None else ", ".join(lines) or "empty"
