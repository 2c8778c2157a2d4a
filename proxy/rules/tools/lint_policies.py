"""Warnings about custom policies that let caches do what their author probably did not mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final

from proxy.message.directives import Directive, parse_directives
from proxy.rules import policies
from proxy.rules.loading.diagnostics import Doubt, did_you_mean, show_text
from proxy.rules.model import Policy
from proxy.rules.policies import cache_control

_DIRECTIVES: Final = frozenset(
    (
        *("no-store", "no-cache", "no-transform", "must-revalidate", "proxy-revalidate", "must-understand"),
        *(
            "private",
            "public",
            "max-age",
            "s-maxage",
            "immutable",
            "stale-while-revalidate",
            "stale-if-error",
        ),
        *("post-check", "pre-check"),
    )
)

_BYPASSES: Final = ("Surrogate-Control", "*-Cache-Control", "Edge-Control", "X-Accel-Expires")

enforces = lru_cache(policies.enforces)  # lint asks it for every pair of rules


def changes_nothing(policy: Policy) -> bool:
    """Tell whether a policy does what `pass` does, by whatever name."""
    return replace(policy, name=policies.PASS.name) == policies.PASS


def doubts_about(policy: Policy, base: Policy) -> Iterator[Doubt]:
    """Find what is doubtful in a policy, as far as it differs from the one that it extends."""
    if cache_control(policy) != cache_control(base):
        yield from _about_directives(policy, base)
    if not enforces(policy):
        return
    is_new = not enforces(base)
    if policy.conditionals == "keep" and (is_new or base.conditionals != "keep"):
        text = "the app can still answer 304, and an old copy is shown again; write conditionals: strip"
        yield "validators-kept", ("conditionals",), text
    if policy.etag == "keep" and (is_new or base.etag != "keep"):
        text = (
            "Varnish, Traffic Server and httpd answer a client's If-None-Match by this tag from what passes "
            "them; write etag: mark, which keeps If-Match working"
        )
        yield "validators-kept", ("etag",), text
    kept = [name for name in _BYPASSES if _passes(policy, name) and (is_new or not _passes(base, name))]
    if kept:
        text = (
            f"the app's {', '.join(kept)} {'passes' if len(kept) == 1 else 'pass'}, which some caches obey "
            "before Cache-Control; extend strict, or name them under remove"
        )
        yield "bypasses-kept", (), text
    yield from _about_bypasses(policy, base)


def _passes(policy: Policy, name: str) -> bool:
    lower = name.lower()
    return lower not in policy.remove and all(lower != set_name.lower() for set_name, _ in policy.set_fields)


def _about_bypasses(policy: Policy, base: Policy) -> Iterator[Doubt]:
    """Fields that an enforcing policy sets although some cache prefers them to `Cache-Control`."""
    for name, value in policy.set_fields:
        lower = name.lower()
        if (name, value) in base.set_fields:
            continue
        if lower == "x-accel-expires":
            forbids = value.strip() == "0"
        elif lower in ("surrogate-control", "edge-control") or lower.endswith("-cache-control"):
            directives = parse_directives([value.encode("latin-1")])
            forbids = any(each.name in ("no-store", "no-cache", "private") for each in directives)
        else:
            continue
        if not forbids:
            wanted = "0" if lower == "x-accel-expires" else "no-store"
            text = f"some caches obey {name} before Cache-Control, and this lets them store; write {wanted}"
            yield "undone-no-store", ("set", name), text


def _contradicts(directive: Directive) -> bool:
    """Whether it allows what `no-store` forbids."""
    if directive.name in ("max-age", "s-maxage"):
        return directive.argument != "0" and not directive.rest
    return directive.name in ("public", "immutable") or directive.name.startswith("stale-")


def _about_directives(policy: Policy, base: Policy) -> Iterator[Doubt]:
    set_names = [name for name, _ in policy.set_fields if name.lower() == "cache-control"]
    at = ("set", set_names[0]) if set_names else ("remove",)
    if enforces(base) and not enforces(policy):
        text = (
            f"extends {base.name}, but its Cache-Control has no no-store: caches may store, and a rule with "
            "this policy counts as an exception; add no-store, or extend revalidate"
        )
        yield "weakened-policy", at, text
    for directive in parse_directives(cache_control(policy)):
        if directive.rest:
            text = (
                f"{show_text(directive.rest)} after {directive.name} belongs to no directive, and many caches "
                "then know neither; separate directives by commas"
            )
            yield "malformed-directive", at, text
        if directive.name == "no-store" and directive.argument is not None:
            text = "no-store has no argument, and many caches do not know it with one; write no-store alone"
            yield "malformed-directive", at, text
        if enforces(policy) and _contradicts(directive):
            text = f"{directive.name} says the contrary of no-store, and some caches go by it; leave it out"
            yield "undone-no-store", at, text
        if directive.name not in _DIRECTIVES:
            hint = did_you_mean(directive.name, _DIRECTIVES) or "; mind the spelling"
            yield "unknown-directive", at, f"no cache knows the directive {show_text(directive.name)}{hint}"
        if enforces(policy) and directive.name == "must-understand":
            text = "must-understand lets a cache ignore no-store (RFC 9111 section 5.2.2.3); leave it out"
            yield "undone-no-store", at, text
        if directive.argument is not None and directive.name in ("no-cache", "private"):
            text = (
                f"{directive.name} with an argument is for the fields that it names only and allows the rest "
                f"to be reused; write {directive.name} alone"
            )
            yield "undone-no-store", at, text
