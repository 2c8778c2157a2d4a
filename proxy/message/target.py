"""The request target, RFC 9112 section 3.2: checked, reduced to origin-form, and otherwise left as sent."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Final

from proxy.message.errors import PathTooLongError, TargetError
from proxy.message.octets import CONTROLS, all_but, has_only

# What may stand in a target: visible ASCII, and what RFC 3986 forbids but Internet Explorer sends: bytes from 0x80 in
# queries, and up to version 10 the fragment of an XMLHttpRequest's address.
_ALLOWED: Final = all_but(CONTROLS + b" ")
_ABSOLUTE = re.compile(rb"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[0-9A-Za-z._~-]+)?\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)


MAX_PATH_BYTES: Final = 8192
"""What servers take of a path (nginx 8 KiB, gunicorn 4): all its spellings are made before rules see it."""

_MAX_HOST_BYTES: Final = 1024  # DNS ends at 253


def parse_target(method: str, target: bytes) -> tuple[bytes, bytes | None]:
    """Check a request target and reduce it to what is forwarded.

    Returns:
        What the upstream gets, origin-form or `*`, byte for byte as sent, with its fragment if it has one; and the
        authority of absolute-form, else `None`.

    Raises:
        TargetError: control characters or white space in it, or a form this method cannot have.
        PathTooLongError: rules would take too long over it.
    """
    if not has_only(target, _ALLOWED):
        raise TargetError("a control character or white space in the request target")
    if target.startswith(b"/"):
        return _within_limit(target), None
    if target == b"*":
        if method != "OPTIONS":
            raise TargetError("the request target '*' belongs to OPTIONS")
        return target, None
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match["authority"]:
        raise TargetError("the request target is neither a path nor an absolute http URI")
    rest: bytes = match["rest"]
    if not rest and method == "OPTIONS":
        return b"*", match["authority"]  # RFC 9112 section 3.2.4
    forwarded = rest if rest.startswith(b"/") else b"/" + rest
    return _within_limit(forwarded), match["authority"]


def _within_limit(target: bytes) -> bytes:
    if len(target) > MAX_PATH_BYTES and len(target.partition(b"?")[0]) > MAX_PATH_BYTES:
        raise PathTooLongError(f"a path of more than {MAX_PATH_BYTES} bytes")
    return target


def is_host(value: bytes) -> bool:
    """Tell whether a `Host` value is `uri-host [ ":" port ]`, RFC 9110 section 7.2. Empty is allowed."""
    return len(value) <= _MAX_HOST_BYTES and _is_short_host(value)


@lru_cache(128)  # hosts are few
def _is_short_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def readable(target: bytes) -> str:
    """Return a target as text for logs: UTF-8 as it is, every other byte percent-encoded, as a browser would send it."""
    return target.decode("utf-8", PERCENT_ENCODE)


def _percent_encode(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join([f"%{byte:02X}" for byte in error.object[error.start : error.end]]), error.end


PERCENT_ENCODE: Final = "nocache-proxy.percent-encode"
"""The `errors` of `bytes.decode` that makes a text of any bytes, see `readable`."""
codecs.register_error(PERCENT_ENCODE, _percent_encode)
