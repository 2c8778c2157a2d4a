"""The built-in policies, and how to make one policy from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from proxy.message.directives import Directive, parse_directives
from proxy.message.rewrite import ETagMode, LastModifiedMode, Treatment
from proxy.rules.model import ConditionalsMode, Policy

# RFC 9111's own example of a date long past. The epoch counts as absent in Varnish, and a recent date is
# not past for a cache whose clock is behind.
_EXPIRED: Final = ("Expires", "Thu, 01 Dec 1994 16:00:00 GMT")
# The one protection against an nginx that is told to ignore Cache-Control and Expires.
_NGINX_NO_STORE: Final = ("X-Accel-Expires", "0")
_HTTP_1_0_NO_CACHE: Final = ("Pragma", "no-cache")
# Fields that override Cache-Control in some cache, claim an age, or let a copy answer other URIs.
_BYPASSES: Final = (
    "surrogate-control",
    "*-cache-control",
    "edge-control",
    "age",
    "warning",
    "no-vary-search",
)

CLASSIC: Final = Policy(
    name="classic",
    set_fields=(
        ("Cache-Control", "no-store, no-cache, must-revalidate, post-check=0, pre-check=0"),
        _HTTP_1_0_NO_CACHE,
        _EXPIRED,
        _NGINX_NO_STORE,
    ),
    remove=_BYPASSES,
    etag="mark",
    last_modified="date",
    conditionals="strip",
)
STRICT: Final = replace(
    CLASSIC,
    name="strict",
    set_fields=(
        ("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0, private"),
        _HTTP_1_0_NO_CACHE,
        _EXPIRED,
        _NGINX_NO_STORE,
    ),
    last_modified="remove",
)
REVALIDATE: Final = Policy(
    name="revalidate",
    set_fields=(("Cache-Control", "no-cache, must-revalidate, max-age=0, private"), _EXPIRED),
    remove=_BYPASSES,
)
PASS: Final = Policy(name="pass")

BUILT_IN: Final[Mapping[str, Policy]] = {
    policy.name: policy for policy in (CLASSIC, STRICT, REVALIDATE, PASS)
}


def extend(
    base: Policy,
    name: str,
    *,
    set_fields: Mapping[str, str] | None = None,
    remove: Sequence[str] = (),
    etag: ETagMode | None = None,
    last_modified: LastModifiedMode | None = None,
    conditionals: ConditionalsMode | None = None,
) -> Policy:
    """Make a policy of your own from another.

    Args:
        set_fields: replace the base's fields of the same name in place, others follow in this order.
        remove: more field names to remove; a name that the base sets is no longer set.
        etag, last_modified, conditionals: `None` keeps what the base does.
    """
    own = dict(set_fields or {})
    removed = {field_name.lower() for field_name in remove}
    by_lower_name = {field_name.lower(): (field_name, value) for field_name, value in own.items()}
    merged = [
        by_lower_name.pop(field_name.lower(), (field_name, value))
        for field_name, value in base.set_fields
        if field_name.lower() not in removed or field_name.lower() in by_lower_name
    ]
    set_names = {field_name.lower() for field_name, _ in merged} | by_lower_name.keys()
    return Policy(
        name=name,
        set_fields=(*merged, *by_lower_name.values()),
        remove=tuple(dict.fromkeys(n for n in (*base.remove, *sorted(removed)) if n not in set_names)),
        etag=etag or base.etag,
        last_modified=last_modified or base.last_modified,
        conditionals=conditionals or base.conditionals,
    )


def enforces(policy: Policy) -> bool:
    """Tell whether a policy forbids storing. Every other policy weakens: it matches only what it must."""
    return _says(policy, "no-store")


def protects(policy: Policy) -> bool:
    """Tell whether caches must ask before they use what they store under a policy, or may not store it."""
    return enforces(policy) or _says(policy, "no-cache")


def cache_control(policy: Policy) -> list[bytes]:
    """Return the `Cache-Control` that a policy sets, as bytes; empty when it sets none."""
    return [value.encode("latin-1") for name, value in policy.set_fields if name.lower() == "cache-control"]


def _says(policy: Policy, name: str) -> bool:
    """Whether every cache finds this directive: many compare it with the whole text up to the comma."""
    bare = Directive(name)
    return bare in parse_directives(cache_control(policy))


def treatment(policy: Policy, vary: Sequence[str] = ()) -> Treatment:
    """Compile a policy, and the names that go into `Vary` beside it, for the response's head."""
    return Treatment(
        set_fields=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in policy.set_fields],
        remove=[name.lower().encode("latin-1") for name in policy.remove],
        etag=policy.etag,
        last_modified=policy.last_modified,
        vary=[name.encode("latin-1") for name in vary],
    )
