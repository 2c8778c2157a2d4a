"""The request target, RFC 9112 section 3.2: checked, never changed."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message.errors import PathTooLongError, TargetError
from proxy.message.target import MAX_PATH_BYTES, is_host, parse_target, readable


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/a?b?c",
        b"/a?",
        b"//evil.example/x",
        b"/a/../b/%2e%2e/%2F",
        b"/@x:1//",
        b"/caf\xe9\xff?\xe9",
        b"/%zz%",
        b'/"<>\\^`{|}',
        b"/http://other/",
        b"/a#b",  # Internet Explorer up to 10 sends an XMLHttpRequest's fragment
        b"/a?b#c",
        b"/#?b",
    ],
)
def test_origin_form_is_forwarded_byte_for_byte(target):
    assert parse_target("GET", target) == (target, None)


@pytest.mark.parametrize(
    ("target", "forwarded", "authority"),
    [
        (b"http://app/x?y", b"/x?y", b"app"),
        (b"HTTP://App:80/x", b"/x", b"App:80"),
        (b"https://app", b"/", b"app"),
        (b"http://app?y", b"/?y", b"app"),
        (b"http://app//x", b"//x", b"app"),
        (b"http://[::1]:8080/", b"/", b"[::1]:8080"),
        (b"http://app#x", b"/#x", b"app"),
    ],
)
def test_absolute_form_is_reduced_to_its_path(target, forwarded, authority):
    """It goes to the upstream only, whatever host it names."""
    assert parse_target("GET", target) == (forwarded, authority)


def test_options_without_a_path_is_of_the_server():
    """RFC 9112 section 3.2.4."""
    assert parse_target("OPTIONS", b"http://app") == (b"*", b"app")
    assert parse_target("OPTIONS", b"http://app/") == (b"/", b"app")
    assert parse_target("OPTIONS", b"http://app?a") == (b"/?a", b"app")


def test_path_is_bounded_but_not_the_query():
    path = b"/" + b"x" * (MAX_PATH_BYTES - 1)
    assert parse_target("GET", path + b"?" + path) == (path + b"?" + path, None)
    for start in (b"", b"http://app"):
        with pytest.raises(PathTooLongError):
            parse_target("GET", start + path + b"x")


def test_host_is_bounded():
    assert is_host(b"x" * 1024)
    assert not is_host(b"x" * 1025)


def test_asterisk_belongs_to_options():
    assert parse_target("OPTIONS", b"*") == (b"*", None)
    with pytest.raises(TargetError, match="OPTIONS"):
        parse_target("GET", b"*")


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"a",
        b"?a",
        b"a/b",
        b"**",
        b"app:443",
        b"http://",
        b"http:///x",
        b"http://?x",
        b"http:/x",
        b"ftp://a/x",
        b"mailto:a",
    ],
)
def test_any_other_form_is_refused(target):
    with pytest.raises(TargetError):
        parse_target("GET", target)


@pytest.mark.parametrize("byte", [*range(0x21), 0x7F])
@pytest.mark.parametrize("template", [b"/a%bb", b"/a?%b", b"http://app/%b", b"%b/"])
def test_control_characters_and_white_space_are_refused(byte, template):
    """Decoders cut, drop or decode them at different places."""
    target = template.replace(b"%b", bytes((byte,)))
    with pytest.raises(TargetError):
        parse_target("GET", target)


@pytest.mark.parametrize(
    "value", [b"a", b"app.example:8080", b"127.0.0.1:1", b"[::1]", b"[fe80::1%25eth0]:80", b"", b"a:", b"a_b"]
)
def test_host_is_a_name_or_an_address_and_perhaps_a_port(value):
    assert is_host(value)


@pytest.mark.parametrize(
    "value",
    [
        b"a b",
        b"a,b",
        b"a/b",
        b"a@b",
        b"a?b",
        b"a:b",
        b"a:123456",
        b"[::1",
        b"::1",
        b"a#",
        b"a\\b",
        b"caf\xe9",
        b"a:1:2",
    ],
)
def test_anything_else_is_no_host(value):
    """Two servers in a row could take different hosts from it."""
    assert not is_host(value)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (b"/a?b=%20", "/a?b=%20"),
        ("/größe".encode(), "/größe"),
        (b"/gr\xf6\xdfe", "/gr%F6%DFe"),
        (b"/\xed\xa0\x80", "/%ED%A0%80"),  # a surrogate, which UTF-8 does not have
        (b"/\xf0\x9f\x98", "/%F0%9F%98"),
        (b"\xff", "%FF"),
        (b"", ""),
    ],
)
def test_target_is_readable_in_any_log(target, text):
    """Issue 16.9: a lone surrogate is no text, and some JSON parsers refuse the whole line."""
    assert readable(target) == text


@given(st.binary())
def test_readable_text_is_text(target):
    """Every byte is told, and nothing that is not text comes of it."""
    text = readable(target)
    assert text.encode().decode() == text
    assert unquote_to_bytes(text) == unquote_to_bytes(target)
