"""Warnings about values that no client or app sends, so that the rule never matches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.rules.keys.fields import X_REQUESTED_WITH, FieldKey
from proxy.rules.keys.globs import has_wildcard, value_matches
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.response import ContentTypes
from proxy.rules.loading.diagnostics import Doubt, did_you_mean, nearest, show_text

_AJAX: Final = "XMLHttpRequest"
_NICKNAMES: Final = frozenset(("xhr", "ajax", "xmlhttp", "fetch"))
_PAGES: Final = frozenset(("document", "iframe", "frame", "object", "embed"))
# What browsers put there: the Fetch standard and Fetch Metadata Request Headers.
_KNOWN_VALUES: Final = {
    "sec-fetch-dest": frozenset(
        (
            *("empty", *_PAGES, "audio", "audioworklet", "fencedframe", "font", "image", "json", "manifest"),
            *(
                "paintworklet",
                "report",
                "script",
                "serviceworker",
                "sharedworker",
                "speculationrules",
                "style",
            ),
            *("text", "track", "video", "webidentity", "worker", "xslt"),
        )
    ),
    "sec-fetch-mode": frozenset(("cors", "navigate", "no-cors", "same-origin", "websocket")),
    "sec-fetch-site": frozenset(("cross-site", "same-origin", "same-site", "none")),
    "sec-fetch-user": frozenset(("?1",)),
}
# RFC 6838 and the registry of media types.
_TOP_LEVEL_TYPES: Final = frozenset(
    (
        *("application", "audio", "chemical", "example", "font", "haptics", "image", "message", "model"),
        *("multipart", "text", "video"),
    )
)


def doubts_about_values(conditions: Conditions) -> Iterator[Doubt]:
    """Find values in `match` or `unless` that no client or app sends."""
    for key in conditions.all(FieldKey):
        at = ("x_requested_with",) if key.by_member else ("headers", key.field_name)
        for glob in key.globs:
            text = _about_field_value(key.field_name, glob)
            if text:
                yield "unknown-value", at, text
    types = conditions.get(ContentTypes)
    for index, glob in enumerate(types.globs if types is not None else ()):
        top_level = glob.partition("/")[0]
        if (
            not has_wildcard(top_level)
            and not top_level.startswith("x-")
            and top_level not in _TOP_LEVEL_TYPES
        ):
            hint = did_you_mean(top_level, _TOP_LEVEL_TYPES)
            text = f"no media type begins with {show_text(top_level)}, so no response matches{hint or '; mind the spelling'}"
            yield "unknown-media-type", ("response", "content_types", index), text


def _about_field_value(name: str, glob: str) -> str:
    if name.lower() == X_REQUESTED_WITH.lower():
        near = glob.lower() in _NICKNAMES or nearest(glob, [_AJAX]) is not None
        if near and not value_matches(glob, _AJAX):
            return f"libraries send {_AJAX}, which {show_text(glob)} does not match; write {_AJAX}"
        return ""
    known = _KNOWN_VALUES.get(name.lower())
    if known is None or any(value_matches(glob, value) for value in known):
        return ""
    hint = did_you_mean(glob, known) or f"; they send {', '.join(sorted(known))}"
    return f"no browser sends {show_text(glob)} in {name}{hint}"
