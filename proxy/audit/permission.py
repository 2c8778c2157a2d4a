"""What caches may do with one answer, in the few numbers that evidence is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy.audit.assess import Assessment, CacheKind, assess
from proxy.audit.http_dates import parse_http_date
from proxy.audit.observation import NOT_MODIFIED, Observation, first_value
from proxy.message.fields import Fields

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
    """Assess an answer for both kinds of cache, as those in use behave.

    - A 304 renews what is stored, RFC 9111 section 4.3.4: it counts as the 200 that it stands for, if it gives a
      lifetime itself.
    - nginx stores what was asked for with `Authorization`, against section 3.5: shared caches are taken to do so.
    - Varnish and nginx choose a lifetime without looking at `Last-Modified`, and Varnish takes an `Expires` that is no
      date for none.
    - What beats `Cache-Control` in some shared cache counts for shared caches: `X-Accel-Expires` in nginx,
      `Surrogate-Control` in Varnish, Squid and Fastly, `*-Cache-Control` in CDNs (RFC 9213).
    """
    if seen.status == NOT_MODIFIED and not _gives_lifetime(seen):
        return Permission(0, 0, is_explicit=False, is_immutable=False, may_shared_store=False)
    private, shared = (
        _assess(seen, "private", seen.response_fields),
        _assess(seen, "shared", seen.response_fields),
    )
    targeted = [_assess(seen, "shared", fields) for fields in _targeted(seen.response_fields)]
    directives = first_value(seen.response_fields, b"cache-control") or b""
    return Permission(
        _reusable_s(private),
        max(_shared_s(one) for one in (shared, *targeted)),
        is_explicit="explicit" in (private.freshness, shared.freshness),
        is_immutable=b"immutable" in directives.lower(),
        may_shared_store=any(one.may_store for one in (shared, *targeted)),
    )


def _assess(seen: Observation, cache: CacheKind, response_fields: Fields) -> Assessment:
    return assess(
        seen.method,
        _OK if seen.status == NOT_MODIFIED else seen.status,
        [field for field in seen.request_fields if field[0].lower() != b"authorization"],
        response_fields,
        cache=cache,
        received_at_s=int(seen.at_s),
    )


def _targeted(fields: Fields) -> Iterator[Fields]:
    """Yield the response as other caches read it: those that obey another field first, or ignore an `Expires` that is no date."""
    names = {name.lower() for name, _ in fields}
    if (
        b"cache-control" not in names
        and b"expires" in names
        and not _is_date(first_value(fields, b"expires"))
    ):
        yield [field for field in fields if field[0].lower() != b"expires"]
    others = [field for field in fields if field[0].lower() not in (b"cache-control", b"expires")]
    for name, value in fields:
        lower = name.lower()
        if lower == b"x-accel-expires" and value.isdigit():
            yield [*others, (b"Cache-Control", b"max-age=" + value)]
        elif lower in (b"surrogate-control", b"edge-control") or lower.endswith(b"-cache-control"):
            yield [*others, (b"Cache-Control", value)]


def _gives_lifetime(seen: Observation) -> bool:
    names = (b"cache-control", b"expires")
    return any(first_value(seen.response_fields, name) is not None for name in names)


def _is_date(value: bytes | None) -> bool:
    return value is not None and parse_http_date(value.decode("latin-1")) is not None


def _shared_s(assessment: Assessment) -> float:
    is_chosen = assessment.may_reuse_without_validation and assessment.freshness == "heuristic"
    return math.inf if is_chosen else _reusable_s(assessment)


def _reusable_s(assessment: Assessment) -> float:
    if not assessment.may_reuse_without_validation:
        return 0
    if assessment.freshness_lifetime_s is None:
        return math.inf
    return max(0, assessment.freshness_lifetime_s - assessment.initial_age_s)
