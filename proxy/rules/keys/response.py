"""The keys below `response`: what only the head of the app's response can tell."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache

from proxy.rules.keys.facts import ABSENT, Reading, ResponseFacts
from proxy.rules.keys.globs import value_matches
from proxy.rules.keys.key import Key, ResponseKey


class Statuses(ResponseKey):
    """Status codes (`200`) and classes (`3xx`)."""

    __slots__ = ("statuses",)

    def __init__(self, statuses: tuple[str, ...]) -> None:
        super().__init__("response.status", statuses)
        self.statuses = statuses

    @property
    def wanted(self) -> str:
        return ", ".join(self.statuses)

    def holds(self, facts: ResponseFacts, reading: Reading) -> bool:
        status = str(facts.status)
        if status in self.statuses or f"{status[0]}xx" in self.statuses:
            return True
        return reading == "any" and facts.is_renewal and any(each[0] == "2" for each in self.statuses)

    def seen(self, facts: ResponseFacts) -> str:
        return str(facts.status)


class ContentTypes(ResponseKey):
    """Globs on the media type. Of several types the reading `any` takes one, `every` needs all."""

    __slots__ = ("globs",)

    def __init__(self, globs: tuple[str, ...]) -> None:
        super().__init__("response.content_types", globs)
        self.globs = globs

    @property
    def wanted(self) -> str:
        return ", ".join(self.globs)

    def holds(self, facts: ResponseFacts, reading: Reading) -> bool:
        if reading == "any" and facts.is_renewal and not facts.content_types:
            return True
        matching = [
            any(value_matches(glob, each) for glob in self.globs) for each in facts.content_types or ("",)
        ]
        return any(matching) if reading == "any" else all(matching)

    def seen(self, facts: ResponseFacts) -> str:
        return _text(facts.kind[1])

    def is_apart_from(self, other: Key) -> bool:
        return isinstance(other, ContentTypes) and not any(
            _may_agree(*pair) for pair in itertools.product(self.globs, other.globs)
        )


class Attachment(ResponseKey):
    """Whether `Content-Disposition` says `attachment`."""

    __slots__ = ("is_wanted",)

    def __init__(self, *, is_wanted: bool) -> None:
        super().__init__("response.attachment", is_wanted)
        self.is_wanted = is_wanted

    @property
    def wanted(self) -> str:
        return "true" if self.is_wanted else "false"

    def holds(self, facts: ResponseFacts, reading: Reading) -> bool:
        if facts.is_renewal and not facts.dispositions:
            return reading == "any"
        return self.is_wanted is ("attachment" in facts.dispositions[:1])

    def seen(self, facts: ResponseFacts) -> str:
        return _text(facts.kind[2])

    def is_apart_from(self, other: Key) -> bool:
        return self != other


def _text(lines: Sequence[bytes]) -> str:
    return ", ".join([line.decode("latin-1") for line in lines]) if lines else ABSENT


@lru_cache(maxsize=4096)  # lint asks again and again about the same pairs
def _may_agree(one: str, other: str) -> bool:
    """Tell by the text before the first wildcard whether two globs may match the same value."""
    (one_literal, one_sign, _), (other_literal, other_sign, _) = (
        re.sub("[*?]", "*", glob.lower()).partition("*") for glob in (one, other)
    )
    return (bool(one_sign) and other_literal.startswith(one_literal)) or (
        one_literal.startswith(other_literal) and (bool(other_sign) or one_literal == other_literal)
    )
