"""The versions of one cache key: which content could be reused from when to when, and what follows.

Every answer that a cache may store makes an interval: from its arrival until its lifetime ends. Where intervals of two
different contents overlap, some cache could show the older one while the app already gave the newer: the key is
**stale**. Where they overlap for shared caches and it is the user who makes the difference, not the time, one user's
content could be shown to another: a **leak**. Only intervals are kept, so what several workers saw is merged by uniting
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from proxy.audit.observation import differing_share

VERSIONS_PER_KEY: Final = 6
_REFUSALS: Final = (401, 403)


class Version(NamedTuple):
    """One content of a cache key, and the time in which caches may reuse it.

    Attributes:
        content: digest; 0 where the content was not seen.
        validator: see `validator_of`; compared where a content was not seen.
        credentials: who got it; 0 without.
        start_s: of the interval.
        until_s, shared_until_s: its end for any cache, and for shared caches; `start_s` if not reusable.
        last_s: when the app gave it last.
        is_last_of_credentials: each answer gave its client other cookies, so that it comes back with other credentials.
    """

    status: int
    content: int
    validator: int
    credentials: int
    start_s: float
    until_s: float
    shared_until_s: float
    last_s: float
    is_last_of_credentials: bool

    @property
    def identity(self) -> tuple[int, int]:
        """What the content is known by."""
        return self.status, self.content or self.validator

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


_PACKED: Final = Struct("<HQQQdddd?")  # a version as bytes takes a third of the memory of a tuple


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
                last_s=max(version.last_s, other.last_s),
                is_last_of_credentials=version.is_last_of_credentials and other.is_last_of_credentials,
            )
        versions.append(version)
        versions.sort(key=lambda v: (v.start_s, v))
        while len(versions) > VERSIONS_PER_KEY:
            self._settled_stale = _worse(self._settled_stale, _contradiction(versions))
            self._settled_leak = self._settled_leak or any(
                map(_Owners(versions).are_proven, _pairs(versions))
            )
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
        return self._settled_leak or self._belongs_to_users(_is_shared_meanwhile)

    def differs_by_credentials(self) -> bool:
        """Tell whether users got different content, whatever caches may do with it."""
        return self._belongs_to_users(lambda _: True)

    def _belongs_to_users(self, counts: Callable[[_Pair], bool]) -> bool:
        versions = self._versions()
        owners = _Owners(versions)
        return any(counts(pair) and owners.are_likely(pair) for pair in _pairs(versions))

    def _versions(self) -> list[Version]:
        return [Version(*_PACKED.unpack(packed)) for packed in self._packed]


def _touch(one: Version, other: Version) -> bool:
    return one.start_s <= other.until_s and other.start_s <= one.until_s


_Pair = tuple[Version, Version]


def _pairs(versions: list[Version]) -> Iterator[_Pair]:
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


def _is_shared_meanwhile(pair: _Pair) -> bool:
    """Whether a shared cache could still hand out the earlier when the app gave the later."""
    earlier, later = pair
    return later.start_s < earlier.shared_until_s


class _Owners:
    """Tells whether it is the user, or the time, that makes the difference between two contents of one key."""

    def __init__(self, versions: list[Version]) -> None:
        self._versions = versions
        self._credentials_of: dict[tuple[int, int], set[int]] = {}
        for version in versions:
            self._credentials_of.setdefault(version.identity, set()).add(version.credentials)

    def are_proven(self, pair: _Pair) -> bool:
        """Whether a user got its own content again after another user had got another, while it could be shared."""
        return _is_shared_meanwhile(pair) and self._may_differ(pair) and self._is_own_again(pair)

    def are_likely(self, pair: _Pair) -> bool:
        """Whether a user got its own again, or another was refused it, or the contents went to one user each.

        What went to several is nobody's own. Where a user's cookies change with each answer, as those of some sessions
        do, the next credentials may be the same user's. And what has changed for one user may have changed for the
        next, unless both asked in turn.
        """
        if not self._may_differ(pair):
            return False
        if self._is_own_again(pair) or pair[1].status in _REFUSALS:
            return True
        went_to_one_each = all(len(self._credentials_of[version.identity]) == 1 for version in pair)
        is_constant = len(self._credentials_of) == len({version.credentials for version in self._versions})
        return (
            went_to_one_each
            and not pair[0].is_last_of_credentials
            and (is_constant or self._asked_in_turn(pair))
        )

    def _may_differ(self, pair: _Pair) -> bool:
        """Whether different contents went to different users, neither of whom ever got the other's."""
        earlier, later = pair
        return (
            earlier.credentials != later.credentials
            and later.differs_from(earlier)
            and earlier.credentials not in self._credentials_of[later.identity]
            and later.credentials not in self._credentials_of[earlier.identity]
        )

    def _asked_in_turn(self, pair: _Pair) -> bool:
        """Whether two users asked in turn; those without credentials are not one user."""
        earlier, later = pair
        if not (earlier.credentials and later.credentials):
            return False
        return any(
            (version.credentials == earlier.credentials and version.last_s > later.start_s)
            or (version.credentials == later.credentials and version.start_s < earlier.start_s)
            for version in self._versions
        )

    def _is_own_again(self, pair: _Pair) -> bool:
        earlier, later = pair
        return any(
            (version.is_same_as(earlier) and version.last_s > later.start_s)
            or (version.is_same_as(later) and version.start_s < earlier.start_s)
            for version in self._versions
        )
