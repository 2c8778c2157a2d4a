"""The versions of one cache key: which content could be reused from when to when, and what follows.

Every answer that a cache may store makes an interval: from its arrival until its lifetime ends. Where intervals of two
different contents overlap, some cache could show the older one while the app already gave the newer: the key is
**stale**. Where they overlap for shared caches and the contents went to different credentials, one user's content could
be shown to another: a **leak**. Only intervals are kept, so what several workers saw is merged by uniting them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from proxy.audit.observation import differing_share

VERSIONS_PER_KEY: Final = 6


class Version(NamedTuple):
    """One content of a cache key, and the time in which caches may reuse it.

    Attributes:
        content: digest; 0 where the content was not seen.
        validator: see `validator_of`; compared where a content was not seen.
        credentials: who got it; 0 without.
        start_s: of the interval.
        until_s, shared_until_s: its end for any cache, and for shared caches; `start_s` if not reusable.
    """

    status: int
    content: int
    validator: int
    credentials: int
    start_s: float
    until_s: float
    shared_until_s: float

    def differs_from(self, other: Version) -> bool:
        """Whether the two are known to be different contents."""
        if self.status != other.status:
            return True
        if self.content and other.content:
            return self.content != other.content
        is_comparable = self.validator & 1 == other.validator & 1
        return is_comparable and self.validator != other.validator

    def is_same_as(self, other: Version) -> bool:
        """Whether the two are one content for one user."""
        return self[:4] == other[:4]


_PACKED: Final = Struct("<HQQQddd")  # a version as bytes takes a third of the memory of a tuple


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two contents of one key while the first could be reused.

    Attributes:
        after_s: how long after the first the second was seen.
        reusable_s: how long the first could be reused; infinite until the browser closes.
        share: of the blocks that differ, where it is known.
    """

    after_s: float
    reusable_s: float
    share: float | None = None


class KeyEvidence:
    """The versions of one cache key, newest last."""

    __slots__ = ("_packed", "_settled_leak", "_settled_stale", "answers")

    def __init__(self) -> None:
        self.answers = 0
        self._packed: list[bytes] = []
        self._settled_stale: Contradiction | None = None
        self._settled_leak = False

    def add(self, version: Version) -> None:
        """Unite with the interval of the same content that it touches, or begin another."""
        versions = self._versions()
        touching = [v for v in versions if v.is_same_as(version) and _touch(v, version)]
        for other in touching:
            versions.remove(other)
            version = version._replace(
                start_s=min(version.start_s, other.start_s),
                until_s=max(version.until_s, other.until_s),
                shared_until_s=max(version.shared_until_s, other.shared_until_s),
            )
        versions.append(version)
        versions.sort(key=lambda v: (v.start_s, v))
        while len(versions) > VERSIONS_PER_KEY:
            self._settled_stale = _worse(self._settled_stale, _contradiction(versions))
            self._settled_leak = self._settled_leak or _leaks(versions)
            versions.remove(min(versions, key=lambda v: (v.until_s, v)))
        self._packed = [_PACKED.pack(*v) for v in versions]

    def merge(self, other: KeyEvidence) -> None:
        self.answers += other.answers
        for version in other._versions():
            self.add(version)
        self._settled_stale = _worse(self._settled_stale, other._settled_stale)
        self._settled_leak = self._settled_leak or other._settled_leak

    def contradiction(self, blocks: dict[int, bytes]) -> Contradiction | None:
        """Return the strongest proof that this key was stale."""
        return _worse(self._settled_stale, _contradiction(self._versions(), blocks))

    def leaks(self) -> bool:
        """Tell whether one user's content could be shown to another by a shared cache."""
        return self._settled_leak or _leaks(self._versions())

    def differs_by_credentials(self) -> bool:
        """Tell whether users got different content, whatever caches may do with it."""
        versions = self._versions()
        return any(a.credentials != b.credentials and a.differs_from(b) for a in versions for b in versions)

    def _versions(self) -> list[Version]:
        return [Version(*_PACKED.unpack(packed)) for packed in self._packed]


def _touch(one: Version, other: Version) -> bool:
    return one.start_s <= other.until_s and other.start_s <= one.until_s


def _pairs(versions: list[Version]) -> Iterator[tuple[Version, Version]]:
    """Every two versions, the earlier first."""
    for number, later in enumerate(versions):
        for earlier in versions[:number]:
            yield earlier, later


def _contradiction(versions: list[Version], blocks: dict[int, bytes] | None = None) -> Contradiction | None:
    worst: Contradiction | None = None
    for earlier, later in _pairs(versions):
        if later.start_s < earlier.until_s and later.differs_from(earlier):
            known = blocks or {}
            share = differing_share(known.get(earlier.content, b""), known.get(later.content, b""))
            reusable_s = earlier.until_s - earlier.start_s
            worst = _worse(worst, Contradiction(later.start_s - earlier.start_s, reusable_s, share))
    return worst


def _worse(one: Contradiction | None, other: Contradiction | None) -> Contradiction | None:
    """The one that says more: where most differs, and then where the change came soonest."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda c: (-1.0 if c.share is None else -c.share, c.after_s, c.reusable_s))


def _leaks(versions: list[Version]) -> bool:
    """Whether a shared cache could hand content of one user to another who gets different content.

    It is not the user that makes the difference if either got the other's content at some time.
    """
    got = {(version.credentials, version.content or version.validator) for version in versions}
    for earlier, later in _pairs(versions):
        if (
            earlier.credentials != later.credentials
            and later.start_s < earlier.shared_until_s
            and later.differs_from(earlier)
            and (earlier.credentials, later.content or later.validator) not in got
            and (later.credentials, earlier.content or earlier.validator) not in got
        ):
            return True
    return False
