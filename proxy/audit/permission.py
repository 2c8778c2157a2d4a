"""What caches may do with one answer, in the few numbers that evidence is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from proxy.audit.assess import Assessment, CacheKind, assess
from proxy.audit.observation import NOT_MODIFIED, Observation, first_value

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Permission:
    """For how long from its arrival a private and a shared cache may reuse an answer without asking.

    Internet Explorer's habit is part of it: what has no lifetime and no `Last-Modified` is reused until the
    browser closes. That is legal, RFC 9111 section 4.2.2.

    Attributes:
        private_s, shared_s: 0 for never, infinite where a cache may choose.
        lifetime_s: the longer one.
        is_explicit: the app gave the lifetime.
        is_immutable: `Cache-Control: immutable`, RFC 8246.
        may_shared_store: a shared cache may keep it, if only to ask whether it still holds.
    """

    private_s: float
    shared_s: float
    is_explicit: bool
    is_immutable: bool
    may_shared_store: bool

    @property
    def lifetime_s(self) -> float:
        return max(self.private_s, self.shared_s)

    @property
    def may_be_reused(self) -> bool:
        return self.lifetime_s > 0

    @property
    def is_private_reusable(self) -> bool:
        return self.private_s > 0

    @property
    def is_shared_reusable(self) -> bool:
        return self.shared_s > 0


def permission_of(seen: Observation) -> Permission:
    """Assess an answer for both kinds of cache.

    A 304 renews what is stored, RFC 9111 section 4.3.4: it counts as the 200 that it stands for, if it gives a
    lifetime itself. No cache in use knows `must-understand`, so `no-store` beside it holds.
    """
    if seen.status == NOT_MODIFIED and not _gives_lifetime(seen):
        return Permission(0, 0, is_explicit=False, is_immutable=False, may_shared_store=False)
    private, shared = _assess(seen, "private"), _assess(seen, "shared")
    directives = first_value(seen.response_fields, b"cache-control") or b""
    return Permission(
        _reusable_s(private),
        _reusable_s(shared),
        is_explicit="explicit" in (private.freshness, shared.freshness),
        is_immutable=b"immutable" in directives.lower(),
        may_shared_store=shared.may_store,
    )


def _assess(seen: Observation, cache: CacheKind) -> Assessment:
    return assess(
        seen.method,
        _OK if seen.status == NOT_MODIFIED else seen.status,
        seen.request_fields,
        seen.response_fields,
        cache=cache,
        received_at_s=int(seen.at_s),
        implements_must_understand=False,
    )


def _gives_lifetime(seen: Observation) -> bool:
    names = (b"cache-control", b"expires")
    return any(first_value(seen.response_fields, name) is not None for name in names)


def _reusable_s(assessment: Assessment) -> float:
    if not assessment.may_reuse_without_validation:
        return 0
    if assessment.freshness_lifetime_s is None:
        return math.inf
    return max(0, assessment.freshness_lifetime_s - assessment.initial_age_s)
