"""The spellings of a path; that they are all is a law in `tests/laws/test_never_bypassed.py`.

Here: what each means, how many there are, and that nothing a client sends makes them many.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message.target import MAX_PATH_BYTES
from proxy.rules.engine.spellings import _decode, spellings


@pytest.mark.parametrize(
    "path", [b"/", b"/a", b"/a/", b"/a/b.c/d-e_f~g", b"/a=b&c,d@e:f!g", b"*", b"/a..b/c."]
)
def test_plain_path_has_one_spelling_itself(path):
    """The common case costs no more than a look at the bytes; a slash at the end stays."""
    assert spellings(path) == [path.decode()]


@pytest.mark.parametrize(
    ("path", "among"),
    [
        (b"/%61", ["/a"]),
        (b"/%2561", ["/%61"]),
        (b"/a%2Fb", ["/a/b"]),
        (b"//a", ["/a", "//a"]),
        (b"/x//a", ["/x/a", "/x//a"]),
        (b"///a//b", ["/a/b"]),
        (b"/./a", ["/a"]),
        (b"/x/../a", ["/a", "/x/../a"]),
        (b"/../../a", ["/a"]),
        (b"/x/..", ["/"]),
        (b"/a/.", ["/a/"]),
        (b"/x/%2e%2e/a", ["/a", "/x/../a"]),
        (b"/x%2f../a", ["/a"]),
        (b"/x/%2e%2e%2fa", ["/a"]),
        (b"/a;v=1", ["/a", "/a;v=1"]),
        (b"/a;v=1/b;w", ["/a/b"]),
        (b"/a%3Bv=1", ["/a", "/a;v=1"]),
        (b"/caf%C3%A9", ["/café"]),
        (b"/caf\xc3\xa9", ["/café", "/caf\xc3\xa9"]),
        (b"/caf%E9", ["/caf\ufffd"]),
        (b"/%", ["/%", "/"]),
        (b"/a%4", ["/a%4", "/a"]),
        (b"/%%61", ["/%a", "/%61"]),
        (b"/%zz", ["/%zz", "/\0"]),
        (b"/a%00", ["/a\0"]),
        (b"/a%0A", ["/a\n", "/a"]),
        (b"/a%0A;v", ["/a"]),
        (b"/a#b", ["/a", "/a#b"]),
        (b"/a#/../b", ["/a", "/b"]),
        (b"/a\xa0", ["/a"]),
        (b"/a\x85\xa0", ["/a"]),
        (b"//h/a", ["/a", "/h/a"]),
        (b"//h", ["/", "/h"]),
        (b"/a%2fb", ["/a/b", "/a%2Fb"]),
        (b"/.%4", ["/."]),
        (b"/a/..%0a", ["/a/..\n", "/"]),
    ],
)
def test_every_reading_of_some_server_is_among_the_spellings(path, among):
    """WSGI servers decode once; httpd and nginx resolve dots after that, uWSGI before; Werkzeug merges slashes."""
    assert set(among) <= set(spellings(path))


@pytest.mark.parametrize(
    ("path", "not_among"),
    [
        (b"/%2561", "/a"),
        (b"/a%252Fb", "/a/b"),
        (b"/a/b", "/a"),
        (b"/A", "/a"),
        (b"/...", "/"),
        (b"/a/.../b", "/b"),
        (b"/.a/b", "/b"),
        (b"/a..//b", "/b"),
    ],
)
def test_what_no_server_reads_is_not_among_them(path, not_among):
    """Else a rule would protect, and a `pass` would fail to except, what it does not name."""
    assert not_among not in spellings(path)


@given(
    st.lists(
        st.sampled_from([b"a", b"/", b"%", b"2e", b"%2f", b".", b"..", b";", b"\xe9", b"%00", b"%c3%a9"])
    )
)
def test_spellings_of_a_short_path_are_absolute_and_at_least_one(parts):
    """A short path may have more, as it costs little; of a long one there are few, or it may be any path."""
    found = spellings(b"/" + b"".join(parts))
    assert 1 <= len(found) <= 256
    assert len(set(found)) == len(found)
    assert [spelling for spelling in found if not spelling.startswith("/")] == []


@given(st.binary(max_size=40))
def test_no_bytes_raise(path):
    assert spellings(b"/" + path)


@given(
    st.lists(
        st.sampled_from(
            [b"a", b"%", b"41", b"%41", b"%c3%a9", b"%e2%82", b"=", b"%3d", b"_", b"\xe9", b"%0a"]
        )
    ).map(b"".join)
)
def test_escapes_are_decoded_as_the_standard_library_does(path):
    assert _decode(path) == unquote_to_bytes(path)


LONG = {
    "escapes": b"/%41" * 2048,
    "escapes that are none": b"/%zz" * 2048,
    "percent signs": b"%" * 8191,
    "dot segments": b"/.." * 2730,
    "slashes": b"/" * 8191,
    "double slashes": b"//a" * 2730,
    "parameters": b"/;" * 4095,
    "raw bytes": b"/\xe9%41" * 1638,
    "bytes that are not UTF-8": b"/%e2%82" * 1170,
    "escaped slashes": b"%2f" * 2730,
    "of everything some": b"/;a%zz/../b%2f\xe9#" * 8 + b"/x" * 4000,
    "one escape": b"/%41" + b"/abcdefg" * 1020,
}


@pytest.mark.parametrize("path", LONG.values(), ids=LONG)
def test_long_path_has_few_spellings_or_may_be_any(path):
    """All of them together are bounded, so that the longest path takes less than a millisecond; 12 it took."""
    path = (b"/" + path)[:MAX_PATH_BYTES]
    found = spellings(path)
    assert sum(map(len, found)) <= 128 << 10


@pytest.mark.parametrize(
    "path", [LONG["escapes"], LONG["slashes"], LONG["one escape"]], ids=["escapes", "slashes", "one"]
)
def test_long_path_with_one_kind_of_oddity_is_still_spelt(path):
    assert spellings((b"/" + path)[:MAX_PATH_BYTES])
