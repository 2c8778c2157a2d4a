"""The law of one line: an enforced response says everything once, whatever the upstream sent."""

from __future__ import annotations

import random

from proxy.audit.assess import CacheKind, assess
from proxy.message.fields import FieldSection, list_members
from proxy.message.response import ResponseHead, render_response
from proxy.rules.policies import BUILT_IN, enforces, treatment
from tests.laws.holding import at_both_sizes, hold

REMOVED = (b"surrogate-control", b"edge-control", b"age", b"warning", b"no-vary-search")
NAMES = (
    b"Cache-Control cache-control CACHE-CONTROL Pragma Expires expires Vary vary ETag etag Last-Modified "
    b"Date Age Surrogate-Control CDN-Cache-Control x-cache-control -cache-control Edge-Control Warning "
    b"X-Accel-Expires No-Vary-Search Server Set-Cookie Connection X-Other Cache-Control-X "
    b"Keep-Alive Content-Type".split()
)
VALUES = (
    b'public, max-age=600|no-store, must-understand|private="x, no-store"|no-transform|s-maxage=1, immutable|'
    b'|0|*|Accept|X-Requested-With, accept|Sun, 06 Nov 1994 08:49:37 GMT|"v1"|W/"v"|v1|Cache-Control, Vary|"|'
    b",,|close|a=b|hit|caf\xe9".split(b"|")
)
STATUSES = (200, 203, 204, 206, 301, 304, 404, 410, 500, 599)
VARY = ((), ("X-Requested-With",), ("X-Requested-With", "Sec-Fetch-Dest"))


@at_both_sizes
def test_enforced_response_says_everything_once(examples: int) -> None:
    """One Cache-Control, at most one Vary, one line of each field set, none of the removed fields."""
    hold(says_everything_once, examples)


@at_both_sizes
def test_other_fields_stay_as_they_are(examples: int) -> None:
    """Order, spelling and number of what a policy does not name, hop-by-hop fields aside."""
    hold(leaves_other_fields, examples)


def says_everything_once(chance: random.Random) -> None:
    lines, vary = some_lines(chance), chance.choice(VARY)
    status, method = chance.choice(STATUSES), chance.choice(("GET", "HEAD", "POST"))
    rules = BUILT_IN[chance.choice(("classic", "strict", "revalidate"))]
    now = b"Mon, 07 Nov 1994 00:00:00 GMT"
    head = ResponseHead(status, b"X", 1, FieldSection([*lines, (b"Content-Length", b"0")]))
    changes = treatment(rules, vary)
    out = render_response(head, changes, method=method, client_minor=1, keep_alive=True, now=now)
    fields = _fields(out.data)
    names = [name.lower() for name, _ in fields]

    for name, value in rules.set_fields:
        (sent,) = [
            sent_value for sent_name, sent_value in fields if sent_name.lower() == name.lower().encode()
        ]
        without_extra = sent.removesuffix(b", no-transform") if name == "Cache-Control" else sent
        assert without_extra == value.encode()
    assert not [name for name in names if name in REMOVED or (name.endswith(b"-cache-control"))]
    if vary:
        assert names.count(b"vary") == 1
        members = [member.lower() for member in list_members(dict(fields)[_spelt(fields, b"vary")])]
        assert len(members) == len(set(members))
        assert members == [b"*"] or {name.lower().encode() for name in vary} <= set(members)
    if enforces(rules):
        caches: tuple[CacheKind, ...] = ("private", "shared")
        for cache in caches:
            assessment = assess(method, status, (), fields, cache=cache, received_at_s=0)
            assert not assessment.may_store, assessment.why


def some_lines(chance: random.Random) -> list[tuple[bytes, bytes]]:
    return [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.randrange(13))]


def leaves_other_fields(chance: random.Random) -> None:
    lines, status = some_lines(chance), chance.choice(STATUSES)
    named = {*REMOVED, *b"cache-control pragma expires x-accel-expires etag last-modified date".split()}
    options = {
        option.lower()
        for name, value in lines
        if name.lower() == b"connection"
        for option in list_members(value)
    }
    apart = named | options | {b"connection", b"keep-alive", b"content-length"}
    head = ResponseHead(status, b"X", 1, FieldSection([*lines, (b"Content-Length", b"0")]))
    out = render_response(
        head, treatment(BUILT_IN["strict"]), method="GET", client_minor=1, keep_alive=True, now=b"x"
    )

    def others(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [
            f for f in fields if f[0].lower() not in apart and not f[0].lower().endswith(b"-cache-control")
        ]

    assert others(_fields(out.data)) == others(lines)


def _fields(data: bytes) -> list[tuple[bytes, bytes]]:
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


def _spelt(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next(spelt for spelt, _ in fields if spelt.lower() == name)
