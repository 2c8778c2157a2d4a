"""All that the audit knows of one route: some numbers, a few samples for the dry run, and its cache keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from proxy.audit.observation import (
    ASKERS,
    NOT_MODIFIED,
    Asker,
    Observation,
    asker_of,
    first_value,
    media_type,
)
from proxy.audit.permission import Permission
from proxy.audit.routes import is_fingerprinted
from proxy.audit.static import is_static_type
from proxy.audit.versions import KeyEvidence
from proxy.message.fields import Field

_PARAMETERS: Final = re.compile(rb";[^/]*")  # often a session; rules are asked without them, too
_BAD_REQUEST: Final = 400
_MAX_TYPES: Final = 4
_MAX_RULES: Final = 4
_MAX_SAMPLE_PATH: Final = 256
_MAX_SAMPLE_VALUE: Final = 128
_SAMPLE_FIELDS: Final = (b"cache-control", b"expires", b"content-type", b"content-disposition", b"pragma")


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One answer, reduced to what a dry run needs and may be kept.

    Attributes:
        rank: the digest of its cache key; the sample with the smallest stays.
    """

    rank: int
    path: bytes
    status: int
    fields: tuple[Field, ...]


@dataclass(slots=True)
class RouteEvidence:
    """All that is known of one route.

    Attributes:
        reusable: answers without protection that some cache may reuse unasked.
        shared: of these, those that a shared cache may reuse.
        static: of these, those that look static; `versioned`: whose URL changes with the content; `errors`: 4xx and 5xx.
        unseen: answers whose content was not seen, where it should have been.
        latest: for each asker when it last got a reusable answer, and a protected one.
        protected_by: digests of the rules that protected it, each with the time of the first such answer.
        samples: by asker, and by whether the answer was reusable.
    """

    responses: int = 0
    protected: int = 0
    from_cache: int = 0
    reusable: int = 0
    private: int = 0
    shared: int = 0
    explicit: int = 0
    static: int = 0
    versioned: int = 0
    unseen: int = 0
    errors: int = 0
    lifetime_s: float = 0
    disguise: str = ""
    askers: dict[Asker, int] = field(default_factory=lambda: dict.fromkeys(ASKERS, 0))
    types: set[str] = field(default_factory=set)
    latest: dict[Asker, tuple[float, float]] = field(default_factory=dict)
    protected_by: dict[str, float] = field(default_factory=dict)
    samples: dict[tuple[Asker, bool], Sample] = field(default_factory=dict)
    keys: dict[int, KeyEvidence] = field(default_factory=dict)

    def merge(self, other: RouteEvidence) -> None:
        """Add what another worker knows of the same route, or another route that is folded into this one."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lifetime_s = max(self.lifetime_s, other.lifetime_s)
        self.disguise = smallest(self.disguise, other.disguise)
        self.types = set(sorted(self.types | other.types)[:_MAX_TYPES])
        for asker, (reusable_at_s, protected_at_s) in other.latest.items():
            mine = self.latest.get(asker, (0.0, 0.0))
            self.latest[asker] = (max(mine[0], reusable_at_s), max(mine[1], protected_at_s))
        for digest, since_s in other.protected_by.items():
            self._note_rules(digest, since_s)
        for asker in ASKERS:
            self.askers[asker] += other.askers[asker]
        for about, sample in other.samples.items():
            self.samples[about] = min(sample, self.samples.get(about, sample))
        for key, theirs in other.keys.items():
            if key in self.keys:
                self.keys[key].merge(theirs)
            else:
                self.keys[key] = theirs

    def count(self, seen: Observation, permission: Permission, key: int, times: int) -> None:
        """Count one answer, which was given so many times."""
        self.responses += times
        self.from_cache += seen.is_from_cache
        asker = asker_of(seen.request_fields)
        self.askers[seen.shown_asker or asker] += times
        if (kind := media_type(seen.response_fields)) and seen.status != NOT_MODIFIED:
            self.types = set(sorted({*self.types, kind})[:_MAX_TYPES])
        if seen.is_from_cache:
            return  # not the app's answer, and the request has not all of its fields
        is_reusable = not seen.is_protected and permission.may_be_reused
        if seen.is_protected or is_reusable:
            reusable_at_s, protected_at_s = self.latest.get(asker, (0.0, 0.0))
            self.latest[asker] = (
                max(reusable_at_s, seen.at_s if is_reusable else 0.0),
                max(protected_at_s, seen.at_s if seen.is_protected else 0.0),
            )
        if seen.is_protected:
            self.protected += times
            if seen.rules:
                self._note_rules(seen.rules, seen.at_s)
            return
        self._keep_sample(seen, (asker, is_reusable), key)
        if is_reusable:
            self._count_reusable(seen, permission, kind, times)

    def _count_reusable(self, seen: Observation, permission: Permission, kind: str, times: int) -> None:
        self.reusable += times
        self.private += times * permission.is_private_reusable
        self.shared += times * permission.is_shared_reusable
        self.explicit += times * permission.is_explicit
        self.errors += times * (seen.status >= _BAD_REQUEST)
        self.lifetime_s = max(self.lifetime_s, permission.lifetime_s)
        path, _, query = seen.target.partition(b"?")
        if is_static_type(kind) or seen.status == NOT_MODIFIED:
            self.static += times
            self.versioned += times * (permission.is_immutable or is_fingerprinted(path, query))

    def _note_rules(self, digest: str, since_s: float) -> None:
        self.protected_by[digest] = min(since_s, self.protected_by.get(digest, since_s))
        if len(self.protected_by) > _MAX_RULES:
            del self.protected_by[min(self.protected_by, key=lambda known: (self.protected_by[known], known))]

    def _keep_sample(self, seen: Observation, about: tuple[Asker, bool], key: int) -> None:
        path = _PARAMETERS.sub(b"", seen.target.partition(b"?")[0])
        if len(path) > _MAX_SAMPLE_PATH:
            return
        fields = tuple(
            (name, value)
            for name in _SAMPLE_FIELDS
            if (value := first_value(seen.response_fields, name)) is not None
            and len(value) <= _MAX_SAMPLE_VALUE
        )
        sample = Sample(key, path, seen.status, fields)
        self.samples[about] = min(sample, self.samples.get(about, sample))


_SUMS: Final = (
    "responses",
    "protected",
    "from_cache",
    "reusable",
    "private",
    "shared",
    "explicit",
    "static",
    "versioned",
    "unseen",
    "errors",
)


def smallest(one: str, other: str) -> str:
    """Return the first of two texts in order, leaving out empty ones: the same for all workers."""
    return min(one, other) if one and other else one or other
