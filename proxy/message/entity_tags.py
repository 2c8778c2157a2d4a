"""One-time entity tags: a tag that no client has seen, from which the app's own tag can be had back.

Varnish, Traffic Server and httpd answer a client's own `If-None-Match` or `If-Range` from the fresh 200
that passes them, by its validators; with an app whose tag never changes that shows the stale copy again.
So each enforced 200 leaves with a tag of its own, and what comes back in `If-Match` is undone: nothing
is remembered in between.
"""

from __future__ import annotations

import itertools
import os
import re
import zlib

_MARK = b";nc="
_UNIQUE_DIGITS = 12
_CHECK_DIGITS = 8
_SUFFIX_SIZE = len(_MARK) + _UNIQUE_DIGITS + _CHECK_DIGITS
_MAX_UNIQUE = 0xFFFF_FFFF_FFFF
_MODULUS = 0xFFFF_FFFB  # the largest prime of 32 bits: every digit of the number counts in the checksum
_SUFFIX = rb";nc=[0-9a-f]{20}"
_TAG = re.compile(rb'(?:W/)?"([^"]*)"')
_WHOLE = re.compile(rb"(.*)" + _SUFFIX, re.DOTALL)
_IN_LIST = re.compile(rb'"([^"]*)' + _SUFFIX + rb'"')

# A random start keeps workers and restarts apart; a counter never repeats within one process.
_serial = itertools.count(int.from_bytes(os.urandom(6), "big"))


def make_one_time(tag: bytes) -> bytes:
    """Return `tag` with a suffix that makes it unlike every tag sent before.

    Args:
        tag: an `ETag` value as the app sent it: `"v"`, `W/"v"`, or something that is no entity tag.

    Returns:
        `"v;nc=<20 hex digits>"`; weak stays weak. What is not in quotes gets the suffix at its end.
        The last eight digits are a checksum, so that an app's own tag is not taken for one of these.
    """
    in_quotes = _TAG.fullmatch(tag)
    if in_quotes is None:
        return tag + _suffix(tag)
    return tag[:-1] + _suffix(in_quotes[1]) + b'"'


def restore(value: bytes) -> bytes:
    """Return an `If-Match` or `If-None-Match` value with every one-time tag turned back into the app's own.

    Everything else in the value, `*` included, is returned as it is.
    """
    if _MARK not in value:
        return value
    whole = _WHOLE.fullmatch(value)
    if whole and _is_ours(whole[1], value[-_SUFFIX_SIZE:]):
        return whole[1]
    return _IN_LIST.sub(_restore_member, value)


def _restore_member(match: re.Match[bytes]) -> bytes:
    suffix = match[0][-_SUFFIX_SIZE - 1 : -1]
    return b'"' + match[1] + b'"' if _is_ours(match[1], suffix) else match[0]


def _suffix(opaque: bytes) -> bytes:
    return _suffix_with(next(_serial) & _MAX_UNIQUE, opaque)


def _suffix_with(unique: int, opaque: bytes) -> bytes:
    return b";nc=%012x%08x" % (unique, zlib.crc32(opaque, unique % _MODULUS + 1))


def _is_ours(opaque: bytes, suffix: bytes) -> bool:
    unique = suffix[len(_MARK) : -_CHECK_DIGITS]
    return suffix == _suffix_with(int(unique, 16), opaque)
