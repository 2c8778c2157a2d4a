"""What kind of content a client prefers, RFC 9110 section 12.5.1: the gateway's own answers are text or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_ACCEPT: Final = b"accept:"
_JSON: Final = re.compile(r"application/(?:[^;]+\+)?json")
_TEXT: Final = ("text/html", "text/plain", "application/xhtml+xml")
_WEIGHT: Final = re.compile(r";[ \t]*q[ \t]*=[ \t]*([01](?:\.[0-9]{0,3})?)[ \t]*(?:;|$)", re.ASCII)


def prefers_json(lines: Iterable[bytes]) -> bool:
    """Tell whether a request's `Accept` names JSON, and no text with a greater weight or, at the same weight, before it.

    Args:
        lines: the field lines of a request, `Name: value`.
    """
    best, is_json = 0.0, False
    for line in lines:
        if line[: len(_ACCEPT)].lower() == _ACCEPT:
            for member in line[len(_ACCEPT) :].decode("latin-1").lower().split(","):
                name = member.partition(";")[0].strip()
                names_json = _JSON.fullmatch(name) is not None
                if (names_json or name in _TEXT) and (weight := _weight(member)) > best:
                    best, is_json = weight, names_json
    return is_json


def _weight(member: str) -> float:
    found = _WEIGHT.search(member)
    return 1.0 if found is None else float(found[1])
