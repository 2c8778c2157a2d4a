"""The law of marked tags: whatever tag the app sends, what comes back in If-Match reaches it unchanged."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.message import entity_tags
from proxy.message.fields import FieldSection
from proxy.message.request import RequestTable, render_request
from proxy.message.response import ResponseHead, render_response
from proxy.message.rewrite import Treatment

# RFC 9110 section 8.8.3: etagc is any visible character but the quote, and bytes from 0x80.
ETAGC = st.sampled_from([bytes([byte]) for byte in (0x21, *range(0x23, 0x7F), *range(0x80, 0x100))])
OPAQUE = st.one_of(
    st.lists(ETAGC, max_size=12).map(b"".join),
    st.sampled_from([b"", b"v1", b"a,b", b";nc=", b"v;nc=01234567", b"W/", b"\\", b"*"]),
)
WELL_FORMED = st.builds(
    lambda weak, opaque: weak + b'"' + opaque + b'"', st.sampled_from([b"", b"W/"]), OPAQUE
)
# Not entity tags, but seen: no quotes, one quote, spaces.
MALFORMED = st.sampled_from([b'W/ "v1"', *b"""v1 'v1' "v1 v1" w/"v1" "a"b" 1234-5678 "" " """.split()])
MARK = Treatment(etag="mark")
METHODS = st.sampled_from(["PUT", "PATCH", "DELETE", "POST"])


def sent_to_client(tag: bytes, method: str = "GET", status: int = 200) -> bytes:
    """Return the tag that leaves in an enforced response with this tag."""
    head = ResponseHead(status, b"OK", 1, FieldSection([(b"ETag", tag), (b"Content-Length", b"0")]))
    out = render_response(head, MARK, method=method, client_minor=1, keep_alive=True, now=b"x")
    (line,) = (line for line in out.data.split(b"\r\n") if line.lower().startswith(b"etag:"))
    return line.partition(b": ")[2]


def seen_by_app(method: str, name: bytes, value: bytes) -> bytes:
    """Return the field value that reaches the app of a request with this one."""
    raw = method.encode() + b" /a HTTP/1.1\r\nHost: a\r\n" + name + b": " + value + b"\r\n\r\n"
    data, _ = render_request(RequestTable().read(raw), strips_conditionals=True)
    lines = [line for line in data.split(b"\r\n") if line.lower().startswith(name.lower() + b":")]
    assert len(lines) == 1
    return lines[0].partition(b": ")[2]


@settings(max_examples=1000, deadline=None)
@given(tag=st.one_of(WELL_FORMED, MALFORMED), method=METHODS)
def test_tag_comes_back_unchanged(tag: bytes, method: str) -> None:
    """In If-Match of any request, in If-None-Match of an unsafe one; through the real heads."""
    marked = sent_to_client(tag)
    assert marked != tag
    assert seen_by_app(method, b"If-Match", marked) == tag
    assert seen_by_app("GET", b"If-Match", marked) == tag
    assert seen_by_app(method, b"if-none-match", marked) == tag


@settings(max_examples=500, deadline=None)
@given(tags=st.lists(WELL_FORMED, min_size=1, max_size=4), method=METHODS)
def test_list_of_tags_comes_back_unchanged(tags: list[bytes], method: str) -> None:
    """Some of one's own, some marked: each member by itself."""
    sent = [entity_tags.mark(tag) if place % 2 else tag for place, tag in enumerate(tags)]
    assert seen_by_app(method, b"If-Match", b", ".join(sent)) == b", ".join(tags)


@settings(max_examples=500, deadline=None)
@given(tag=WELL_FORMED)
def test_every_enforced_response_with_one_tag_carries_the_same_unknown_one(tag: bytes) -> None:
    """A 200, a 206 and the answer to HEAD agree, and no copy stored without the gateway can have it."""
    sent = {sent_to_client(tag, *how) for how in (("GET", 200), ("GET", 206), ("HEAD", 200), ("GET", 200))}
    (marked,) = sent
    assert marked.removeprefix(b"W/") != tag.removeprefix(b"W/")
    assert marked.startswith(b"W/") is tag.startswith(b"W/")
    assert marked.count(b'"') == tag.count(b'"')


@settings(max_examples=500, deadline=None)
@given(tag=WELL_FORMED)
def test_tag_that_the_app_made_is_not_taken_for_a_marked_one(tag: bytes) -> None:
    """What never left through the gateway is nobody's mark: it stays."""
    assert seen_by_app("PUT", b"If-Match", tag) == tag


@settings(max_examples=300, deadline=None)
@given(tag=WELL_FORMED)
def test_tag_marked_twice_loses_one_mark_only(tag: bytes) -> None:
    """Two gateways in a row: each takes off its own."""
    once = entity_tags.mark(tag)
    assert entity_tags.unmark(entity_tags.mark(once)) == once


def test_star_stays() -> None:
    """`If-Match: *` names no tag."""
    assert seen_by_app("PUT", b"If-Match", b"*") == b"*"
