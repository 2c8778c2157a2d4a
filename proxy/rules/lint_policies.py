"""Doubts about policies of one's own: what they let caches do that their author hardly meant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from proxy.message.directives import parse_directives
from proxy.rules import policies
from proxy.rules.mistakes import did_you_mean, show_text
from proxy.rules.model import Policy
from proxy.rules.policies import cache_control

Doubt = tuple[str, tuple[str, ...], str]
"""A code of `lint.CODES`, the keys below the policy where it stands, and what is said."""

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

enforces = lru_cache(policies.enforces)  # lint asks it for every pair of rules


def doubts_about(policy: Policy, base: Policy) -> Iterator[Doubt]:
    """Find what is doubtful in a policy, as far as it differs from the one that it extends."""
    if cache_control(policy) != cache_control(base):
        yield from _about_directives(policy, base)
    if not enforces(policy):
        return
    if policy.conditionals == "keep" and base.conditionals != "keep":
        text = "the app can still answer 304, and an old copy is shown again; write conditionals: strip"
        yield "validators-kept", ("conditionals",), text
    if policy.etag == "keep" and base.etag != "keep":
        text = (
            "Varnish, Traffic Server and httpd answer a client's If-None-Match by this tag from what passes "
            "them; write etag: one-time, which keeps If-Match working"
        )
        yield "validators-kept", ("etag",), text


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
