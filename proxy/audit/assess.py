"""What caches may do with a response: storability and freshness, RFC 9111 sections 3 and 4.2.

The rules of this package exist because of what is computed here. `explain` prints it, the demo's client
caches by it, and tests use it to show that an enforced response leaves a cache no permission at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from proxy.audit.http_dates import parse_http_date
from proxy.message.directives import Directive, parse_directives
from proxy.message.fields import Fields, list_members
from proxy.message.methods import RETRIEVALS

if TYPE_CHECKING:
    from collections.abc import Iterable

CacheKind = Literal["private", "shared"]
Freshness = Literal["explicit", "heuristic", "none"]

HEURISTICALLY_CACHEABLE = frozenset((200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501))
"""Statuses that need no word of the origin to be stored and reused, RFC 9110 section 15.1."""

HEURISTIC_FRACTION = 0.1
"""Share of the time since `Last-Modified` that caches typically take for fresh, RFC 9111 section 4.2.2."""

MAX_DELTA_S = 2**31
"""Delta-seconds beyond this count as this, RFC 9111 section 1.2.2."""

_MAX_DELTA_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Reason:
    """One finding.

    Attributes:
        text: a statement about this response.
        section: where the rule stands, as `RFC 9111 section 5.2.2.5`.
    """

    text: str
    section: str

    def __str__(self) -> str:
        return f"{self.text} ({self.section})"


@dataclass(frozen=True, slots=True)
class Assessment:
    """What one kind of cache may do with one response at the moment it arrives.

    Attributes:
        may_store: the response may be kept at all.
        freshness: where the lifetime comes from; `none` if nothing gives the response one.
        freshness_lifetime_s: seconds from the response's `Date`; for `heuristic` the typical ten per
            cent, `None` where a cache may choose freely because there is no `Last-Modified`.
        initial_age_s: age on arrival, RFC 9111 section 4.2.3.
        may_reuse_without_validation: some time from now on the stored response may answer another
            request unasked. A heuristic lifetime is the cache's own choice, so it always counts.
        reasons: every finding, those about storing first.
    """

    may_store: bool
    freshness: Freshness
    freshness_lifetime_s: int | None
    initial_age_s: int
    may_reuse_without_validation: bool
    reasons: tuple[Reason, ...]

    @property
    def why(self) -> str:
        """All reasons in one line."""
        return "; ".join(str(reason) for reason in self.reasons)


def assess(
    method: str,
    status: int,
    request_fields: Fields,
    response_fields: Fields,
    *,
    cache: CacheKind,
    received_at_s: int,
) -> Assessment:
    """Tell what a private or a shared cache may do with a response.

    Where RFC 9111 leaves a cache a choice, the one that reuses more is assumed: qualified `no-cache` and
    `private` restrict only the fields they name, of duplicate directives the first counts.

    Args:
        method: of the request, case-sensitive.
        status: of the response.
        request_fields: field lines in wire order; only `Authorization` and `Cache-Control` matter.
        response_fields: field lines in wire order, duplicates kept.
        cache: `private` as in a browser, or `shared`.
        received_at_s: Unix time of arrival; stands in for a missing or invalid `Date`.
    """
    response = _Response.read(status, response_fields, received_at_s)
    storing = _Storing(method, cache)
    permissions = storing.permissions(response)
    prohibitions = storing.prohibitions(response, _Lines(request_fields))
    may_store = bool(permissions) and not prohibitions
    if not permissions:
        prohibitions.append(Reason(f"nothing permits to store a {status}", "RFC 9111 section 3"))

    lifetime = _lifetime(response, cache)
    age_s = _initial_age_s(response, received_at_s)
    obstacles = _obstacles_to_unasked_reuse(response, lifetime, age_s)
    return Assessment(
        may_store=may_store,
        freshness=lifetime.freshness,
        freshness_lifetime_s=lifetime.seconds,
        initial_age_s=age_s,
        may_reuse_without_validation=may_store and not obstacles,
        reasons=(
            *(permissions if may_store else prohibitions),
            lifetime.reason,
            *obstacles,
            *_remarks(response),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Storing:
    """Section 3: a response may be stored if something permits it and nothing forbids it."""

    method: str
    cache: CacheKind

    def permissions(self, response: _Response) -> list[Reason]:
        """List what permits a cache to store; an empty list forbids it."""
        directives = response.directives
        found = []
        if "public" in directives:
            found.append(Reason("public permits to store", "RFC 9111 section 5.2.2.9"))
        if "private" in directives and self.cache == "private":
            found.append(Reason("private permits a private cache to store", "RFC 9111 section 5.2.2.7"))
        if "max-age" in directives:
            found.append(Reason("max-age permits to store", "RFC 9111 section 5.2.2.1"))
        if "s-maxage" in directives and self.cache == "shared":
            found.append(Reason("s-maxage permits a shared cache to store", "RFC 9111 section 5.2.2.10"))
        if response.lines.get("expires"):
            found.append(Reason("Expires permits to store", "RFC 9111 section 5.3"))
        if response.status in HEURISTICALLY_CACHEABLE:
            found.append(
                Reason(f"status {response.status} is heuristically cacheable", "RFC 9110 section 15.1")
            )
        return found

    def prohibitions(self, response: _Response, request: _Lines) -> list[Reason]:
        """List what forbids to store."""
        found = [*self._forbidden_by_method(response), *self._forbidden_by_no_store(response)]
        if response.status < 200:  # noqa: PLR2004 - 1xx is interim
            found.append(Reason(f"status {response.status} is not final", "RFC 9111 section 3"))
        if "no-store" in _Directives.of(request.get("cache-control")):
            found.append(Reason("the request says no-store", "RFC 9111 section 5.2.1.5"))
        if self.cache == "shared":
            found += self._forbidden_to_shared_caches(response.directives, request)
        return found

    def _forbidden_by_method(self, response: _Response) -> list[Reason]:
        if self.method in RETRIEVALS:
            return []
        if self.method != "POST":
            return [Reason(f"responses to {self.method} are not cacheable", "RFC 9110 section 9.2.3")]
        is_explicit = _explicit_lifetime(response, self.cache) is not None
        if is_explicit and response.lines.get("content-location"):
            return []  # that it equals the target URI is not checked: the worst is assumed
        return [Reason("POST needs explicit freshness and a Content-Location", "RFC 9110 section 9.3.3")]

    def _forbidden_by_no_store(self, response: _Response) -> list[Reason]:
        """Section 5.2.2.3: a cache that knows `must-understand` and the status ignores `no-store` beside it."""
        if "no-store" not in response.directives or "must-understand" in response.directives:
            return []
        return [Reason("no-store forbids to store", "RFC 9111 section 5.2.2.5")]

    def _forbidden_to_shared_caches(self, directives: _Directives, request: _Lines) -> list[Reason]:
        found = []
        if directives.is_unqualified("private"):
            found.append(Reason("private forbids a shared cache to store", "RFC 9111 section 5.2.2.7"))
        is_allowed = directives.any_of("public", "s-maxage", "must-revalidate")
        if request.get("authorization") and not is_allowed:
            found.append(Reason("the request has Authorization", "RFC 9111 section 3.5"))
        return found


@dataclass(frozen=True, slots=True)
class _Lifetime:
    freshness: Freshness
    seconds: int | None
    reason: Reason


def _lifetime(response: _Response, cache: CacheKind) -> _Lifetime:
    """Compute the freshness lifetime, RFC 9111 sections 4.2.1 and 4.2.2."""
    explicit = _explicit_lifetime(response, cache)
    if explicit is not None:
        return explicit
    if response.status not in HEURISTICALLY_CACHEABLE and "public" not in response.directives:
        return _Lifetime("none", 0, Reason("no freshness lifetime", "RFC 9111 section 4.2.2"))
    modified_at_s = parse_http_date(response.first("last-modified") or "")
    if modified_at_s is None:
        text = "no explicit lifetime and no Last-Modified: a cache may choose any lifetime"
        return _Lifetime("heuristic", None, Reason(text, "RFC 9111 section 4.2.2"))
    seconds = int(max(0, response.date_s - modified_at_s) * HEURISTIC_FRACTION)
    text = f"no explicit lifetime: a cache may choose one, typically {seconds} s from Last-Modified"
    return _Lifetime("heuristic", seconds, Reason(text, "RFC 9111 section 4.2.2"))


def _explicit_lifetime(response: _Response, cache: CacheKind) -> _Lifetime | None:
    names = ("s-maxage", "max-age") if cache == "shared" else ("max-age",)
    for name in names:
        directive = response.directives.first(name)
        if directive is not None:
            seconds = _delta_seconds(directive.argument)
            text = f"{name} gives {seconds} s" if seconds is not None else f"{name} cannot be read: stale"
            return _Lifetime("explicit", seconds or 0, Reason(text, "RFC 9111 section 4.2.1"))
    expires = response.first("expires")
    if expires is None:
        return None
    expires_at_s = parse_http_date(expires)
    if expires_at_s is None:
        return _Lifetime("explicit", 0, Reason("Expires is no date: stale", "RFC 9111 section 5.3"))
    seconds = max(0, expires_at_s - response.date_s)
    return _Lifetime("explicit", seconds, Reason(f"Expires gives {seconds} s", "RFC 9111 section 4.2.1"))


def _delta_seconds(argument: str | None) -> int | None:
    if argument is None or not re.fullmatch(r"[0-9]+", argument):
        return None
    digits = argument.lstrip("0") or "0"
    # Digits beyond any limit would only cost time to convert.
    return min(int(digits), MAX_DELTA_S) if len(digits) <= _MAX_DELTA_DIGITS else MAX_DELTA_S


def _initial_age_s(response: _Response, received_at_s: int) -> int:
    """Compute the age on arrival, RFC 9111 section 4.2.3, with the time under way taken as zero."""
    stated_s = _delta_seconds((response.first("age") or "").partition(",")[0].strip(" \t")) or 0
    return max(0, received_at_s - response.date_s, stated_s)


def _obstacles_to_unasked_reuse(response: _Response, lifetime: _Lifetime, age_s: int) -> list[Reason]:
    found = []
    if response.directives.is_unqualified("no-cache"):
        found.append(Reason("no-cache forbids reuse without validation", "RFC 9111 section 5.2.2.4"))
    if any(b"*" in list_members(value) for value in response.lines.get("vary")):
        found.append(Reason("Vary: * matches no other request", "RFC 9111 section 4.1"))
    if lifetime.freshness == "none" or (
        lifetime.freshness == "explicit" and (lifetime.seconds or 0) <= age_s
    ):
        found.append(Reason(f"stale at age {age_s} s", "RFC 9111 section 4.2"))
    return found


def _remarks(response: _Response) -> list[Reason]:
    found = []
    directives = response.directives
    if "no-store" in directives and "must-understand" in directives:
        found.append(Reason("must-understand cancels no-store where it is known", "RFC 9111 section 5.2.2.3"))
    if response.lines.get("pragma") and not response.lines.get("cache-control"):
        found.append(Reason("Pragma in a response has no specified meaning", "RFC 9111 section 5.4"))
    for name, section in (("no-cache", "5.2.2.4"), ("private", "5.2.2.7")):
        if name in directives and not directives.is_unqualified(name):
            found += [Reason(f"{name} concerns only the fields it names", f"RFC 9111 section {section}")]
    return found


class _Lines:
    """Field lines by lower-case name, in order."""

    __slots__ = ("_values",)

    def __init__(self, fields: Fields) -> None:
        self._values: dict[str, list[bytes]] = {}
        for name, value in fields:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value)

    def get(self, name: str) -> list[bytes]:
        return self._values.get(name, [])


class _Directives:
    """Cache directives by name; of duplicates the first counts, RFC 9111 section 4.2.1."""

    __slots__ = ("_all",)

    def __init__(self, directives: Iterable[Directive]) -> None:
        self._all = tuple(directives)

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Self:
        return cls(parse_directives(values))

    def __contains__(self, name: str) -> bool:
        return self.first(name) is not None

    def any_of(self, *names: str) -> bool:
        return any(name in self for name in names)

    def first(self, name: str) -> Directive | None:
        return next((directive for directive in self._all if directive.name == name), None)

    def is_unqualified(self, name: str) -> bool:
        """Tell whether one directive of this name names no fields. `no-cache=""` names none."""
        return any(
            directive.name == name and not (directive.argument or "").strip(" \t,") for directive in self._all
        )


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    lines: _Lines
    directives: _Directives
    date_s: int

    @classmethod
    def read(cls, status: int, fields: Fields, received_at_s: int) -> Self:
        lines = _Lines(fields)
        dates = [value.decode("latin-1") for value in lines.get("date")]
        date_s = parse_http_date(dates[0]) if dates else None
        # A recipient with a clock uses the time of arrival instead, RFC 9110 section 6.6.1.
        return cls(
            status,
            lines,
            _Directives.of(lines.get("cache-control")),
            received_at_s if date_s is None else date_s,
        )

    def first(self, name: str) -> str | None:
        values = self.lines.get(name)
        return values[0].decode("latin-1") if values else None
