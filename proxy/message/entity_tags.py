"""Marked entity tags: tags that no copy stored without the gateway carries, from which the app's own can be had back.

Varnish, Traffic Server and httpd answer a client's own `If-None-Match` or `If-Range` from the fresh response that
passes them, by its validators; with an app whose tag never changes, that shows a stale copy again. So an enforced
response leaves with a tag that only enforced responses have. The mark is a checksum of the tag: every response with one
tag gets the same one, in every worker and after a restart, so that a page may poll for a new tag. The checksum also
tells an app's own `;nc=` from a mark. Nothing is remembered.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from typing import Final

from proxy.message.fields import REMEMBERED, list_members

_MARK: Final = b";nc="
_SUFFIX: Final = rb";nc=[0-9a-f]{8}"
_SUFFIX_SIZE: Final = len(_MARK) + 8
_SEED: Final = 0x6E63  # any but 0: an app may well put a plain CRC-32 into its tags
_TAG: Final = re.compile(rb'(?:W/)?"([^"]*)"')
_WHOLE: Final = re.compile(rb"(.*)" + _SUFFIX, re.DOTALL)
_IN_LIST: Final = re.compile(rb'"([^"]*)' + _SUFFIX + rb'"')


@lru_cache(REMEMBERED)
def mark(tag: bytes) -> bytes:
    """Return `tag` with its mark.

    Args:
        tag: an `ETag` value as the app sent it: `"v"`, `W/"v"`, or something that is no entity tag.

    Returns:
        `"v;nc=<8 hex digits>"`, always the same; weak stays weak. What is not in quotes gets the mark at its end.
    """
    in_quotes = _TAG.fullmatch(tag)
    if in_quotes is None:
        return tag + _suffix(tag)
    return tag[:-1] + _suffix(in_quotes[1]) + b'"'


def unmark(value: bytes) -> bytes:
    """Return an `If-Match`, `If-None-Match` or `If` value with the mark taken off every tag that has one.

    Everything else in the value, `*` included, is returned as it is.
    """
    if _MARK not in value:
        return value
    whole = _WHOLE.fullmatch(value)
    if whole and value[-_SUFFIX_SIZE:] == _suffix(whole[1]):
        return whole[1]
    return _IN_LIST.sub(_unmark_member, value)


def _unmark_member(match: re.Match[bytes]) -> bytes:
    opaque: bytes = match[1]
    is_ours = match[0][-_SUFFIX_SIZE - 1 : -1] == _suffix(opaque)
    return b'"' + opaque + b'"' if is_ours else match[0]


def _suffix(opaque: bytes) -> bytes:
    return b";nc=%08x" % zlib.crc32(opaque, _SEED)


def matches_any(value: bytes) -> bool:
    """Tell whether an `If-None-Match` value is met by any response at all: it is `*`, or `*` is among its members."""
    return b"*" in value and b"*" in list_members(value)
