"""Warnings about single rules that match or do what their author probably did not mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from proxy.message.directives import parse_directives
from proxy.message.methods import METHODS
from proxy.rules.keys.fields import ASK_FOR_SCRIPTS, X_REQUESTED_WITH, FieldKey, ScriptRequest
from proxy.rules.keys.globs import value_matches
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.methods import Methods
from proxy.rules.keys.paths import PathKey, Paths
from proxy.rules.keys.response import ContentTypes, Statuses
from proxy.rules.loading.diagnostics import Doubt, show_text
from proxy.rules.model import Rule
from proxy.rules.policies import cache_control
from proxy.rules.tools.lint_policies import changes_nothing, enforces

_NAVIGATION_FIELDS: Final = frozenset(("sec-fetch-dest", "sec-fetch-mode", "accept", "x-requested-with"))
_FONT_ENDINGS: Final = (".woff", ".woff2", ".ttf", ".otf", ".eot")
_FONT_TYPES: Final = ("font/woff2", "application/font-woff", "application/vnd.ms-fontobject")
_DIFFERS_PER_CLIENT: Final = {
    "cookie": "every user, often every request, has its own",
    "user-agent": "there are thousands of them",
    "authorization": "every user has its own",
    "referer": "every page has its own",
    "x-forwarded-for": "every client has its own",
}


def takes_every_path(conditions: Conditions) -> bool:
    """Tell whether no path is left out."""
    return all(key.covers(Conditions()) for key in conditions.all(PathKey))


def takes_everything(rule: Rule) -> bool:
    """Tell whether a rule takes every request, or every GET, whatever the response."""
    match, methods = rule.match, rule.match.get(Methods)
    is_broad = takes_every_path(match) and not match.asks_more_than_path
    return is_broad and rule.unless is None and (methods is None or "GET" in methods.methods)


def every_request(rule: Rule) -> str:
    """Describe what a rule that matches everything matches."""
    return "every request" if rule.match.get(Methods) is None else "every GET"


def asks_for_ajax(match: Conditions) -> bool:
    """Tell whether X-Requested-With must be there."""
    return names_field(match, X_REQUESTED_WITH)


def names_field(conditions: Conditions, name: str) -> bool:
    """Tell whether a field must be there."""
    return any(
        key.field_name.lower() == name.lower() and key.presence is not False
        for key in conditions.all(FieldKey)
    )


def _applies(rule: Rule) -> Iterator[Doubt]:
    if rule.unless is not None and rule.unless.covers(rule.match):
        what = "applies to nothing but odd spellings" if enforces(rule.policy) else "never applies"
        text = (
            f"'unless' holds for all that 'match' holds for, so this rule {what}; make one of them narrower"
        )
        yield "never-applies", ("unless",), text
    if rule.mode == "observe" and changes_nothing(rule.policy):
        text = (
            f"policy {rule.policy.name} changes nothing, so there is nothing to observe; name the policy to "
            "try out"
        )
        yield "idle-observer", ("mode",), text


def _breadth(rule: Rule) -> Iterator[Doubt]:
    if takes_everything(rule) and enforces(rule.policy):
        text = (
            f"takes {every_request(rule)}, static files and pages too, so that nothing of this app is cached any "
            f"more and Back gets slower; name paths, or ask for {ASK_FOR_SCRIPTS}"
        )
        yield "matches-everything", ("match",), text


def _forms(rule: Rule) -> Iterator[Doubt]:
    match, methods = rule.match, rule.match.get(Methods)
    if (
        not enforces(rule.policy)
        or _tells_navigations(match)
        or (rule.unless and _tells_navigations(rule.unless))
    ):
        return
    is_named = methods is not None and "POST" in methods.methods
    is_broad = methods is None and takes_every_path(match)
    types = match.get(ContentTypes)
    takes_pages = types is None or any("html" in glob or glob.startswith("*") for glob in types.globs)
    if (is_named or is_broad) and takes_pages:
        text = (
            "takes the answers to forms (POST) too: with no-store, Back says that the page has expired and "
            f"asks to send the form again; name methods without POST, or ask for {ASK_FOR_SCRIPTS}"
        )
        yield "post-navigation", ("match", "methods") if is_named else ("match",), text


def _tells_navigations(conditions: Conditions) -> bool:
    return not _NAVIGATION_FIELDS.isdisjoint(name.lower() for name in conditions.reads)


def _methods(rule: Rule) -> Iterator[Doubt]:
    for part, conditions in (("match", rule.match), ("unless", rule.unless)):
        asked = conditions.get(Methods) if conditions is not None else None
        for method in sorted(asked.methods - METHODS) if asked is not None else ():
            meant = next((known for known in sorted(METHODS) if _is_one_slip_away(method, known)), None)
            if meant is not None:
                text = f"{method} is a method of no standard, did you mean {meant}?"
                yield "unknown-method", (part, "methods"), text


def _is_one_slip_away(found: str, known: str) -> bool:
    """Tell whether two texts differ by one letter, or by the order of their letters."""
    if len(found) == len(known):
        return sorted(found) == sorted(known) or sum(map(str.__ne__, found, known)) == 1
    longer, shorter = sorted((found, known), key=len, reverse=True)
    return any(longer[:at] + longer[at + 1 :] == shorter for at in range(len(longer)))


def _fields(rule: Rule) -> Iterator[Doubt]:
    if not enforces(rule.policy) and rule.mode == "enforce":
        decisive = [key.field_name for key in rule.match.all(FieldKey) if key.presence is not False]
        script = rule.match.get(ScriptRequest)
        if script is not None and script.is_wanted:
            decisive.append(X_REQUESTED_WITH)
        if decisive:
            text = (
                f"any client can turn protection off by sending {decisive[0]}, and a cache that does not heed "
                "Vary mixes both; name paths, or response conditions"
            )
            yield "pass-by-field", ("match",), text
    for part, conditions in (("match", rule.match), ("unless", rule.unless)):
        for key in conditions.all(FieldKey) if conditions is not None else ():
            at = (part, "headers", key.field_name)
            glob = next((glob for glob in key.globs if _is_part(key.field_name, glob)), None)
            if glob is not None:
                text = (
                    f"{show_text(glob)} is compared with the whole of {key.field_name}, which is longer; write "
                    f"{show_text(f'*{glob}*')}"
                )
                yield "part-of-a-value", at, text
            why = _DIFFERS_PER_CLIENT.get(key.field_name.lower())
            if why is not None:
                text = (
                    f"{key.field_name} goes into Vary on these paths, and {why}: shared caches can keep "
                    "nothing there; ask for another field"
                )
                yield "costly-vary", at, text


def _is_part(name: str, glob: str) -> bool:
    """Tell whether this is only a part of what clients send."""
    if "*" in glob or "?" in glob:
        return False
    return (name.lower() == "cookie" and "=" not in glob) or (
        name.lower() == "user-agent" and "/" not in glob
    )


def _shared_caches(rule: Rule) -> Iterator[Doubt]:
    if not enforces(rule.policy) or asks_for_ajax(rule.match):
        return
    directives = {
        directive.name: directive.argument for directive in parse_directives(cache_control(rule.policy))
    }
    if "private" not in directives and directives.get("max-age") != "0":
        text = (
            f"the Cache-Control of policy {rule.policy.name} has neither private nor max-age=0, which is "
            "what Fastly and others go by; use strict for responses that a CDN may see"
        )
        yield "classic-for-shared-caches", ("policy",), text


def _not_modified(rule: Rule) -> Iterator[Doubt]:
    statuses = rule.match.get(Statuses)
    if statuses is not None and "304" in statuses.statuses and rule.policy.conditionals == "strip":
        text = f"policy {rule.policy.name} strips the conditions off requests, so no 304 comes back; leave 304 out"
        yield "status-304", ("match", "response", "status"), text


def _fonts(rule: Rule) -> Iterator[Doubt]:
    if not enforces(rule.policy) or rule.mode != "enforce":
        return
    text = (
        "Internet Explorer up to 11 shows no web font that may not be stored; except fonts with 'unless', or give them "
        "a rule with policy pass before this one"
    )
    globs = rule.match.get(Paths)
    if globs is not None and any(glob.lower().endswith(_FONT_ENDINGS) for glob in globs.texts):
        yield "fonts", ("match", "paths"), text
    types = rule.match.get(ContentTypes)
    if types is not None and any(value_matches(glob, font) for glob in types.globs for font in _FONT_TYPES):
        yield "fonts", ("match", "response", "content_types"), text


RULE_CHECKS: Final[tuple[Callable[[Rule], Iterator[Doubt]], ...]] = (
    _applies,
    _breadth,
    _forms,
    _methods,
    _fields,
    _shared_caches,
    _not_modified,
    _fonts,
)
"""Each finds what is doubtful about one rule by itself."""
