"""The spellings of a path, http-caching.md section 8; that they are all is a law in `tests/laws/test_never_bypassed.py`.

Here: what each means, how many there are, and that nothing a client sends makes them many.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.engine.spellings import spellings


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
def test_spellings_are_few_absolute_and_at_least_one(parts):
    """A peer cannot make a decision dear: there are at most a few dozen readings of any path."""
    found = spellings(b"/" + b"".join(parts))
    assert 1 <= len(found) <= 64
    assert len(set(found)) == len(found)
    assert [spelling for spelling in found if not spelling.startswith("/")] == []


@given(st.binary(max_size=40))
def test_no_bytes_raise(path):
    assert spellings(b"/" + path)
