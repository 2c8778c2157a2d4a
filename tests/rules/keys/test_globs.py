"""Globs as RE2 expressions: `*` in a segment, `**` across segments, `?` one character."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.keys.globs import PatternError, check_regex, compile_quietly, path_glob, value_matches


def matches(expression: str, text: str) -> bool:
    return compile_quietly(expression).fullmatch(text) is not None


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("/a", ["/a"], ["/", "/a/", "/A", "/ab", "a"]),
        ("/a/*", ["/a/", "/a/b", "/a/b.c"], ["/a", "/a/b/", "/a/b/c"]),
        ("/*/b", ["/a/b", "//b"], ["/b", "/a/c/b"]),
        ("/a*", ["/a", "/abc"], ["/a/", "/a/b"]),
        ("/**", ["/", "/a", "/a/b/"], ["", "a"]),
        ("/a/**", ["/a/", "/a/b/c"], ["/a", "/ab/c"]),
        ("/a/**/b", ["/a/b", "/a/x/b", "/a/x/y/b", "/a//b"], ["/ab", "/a/xb", "/a/b/"]),
        ("/**/*.js", ["/x.js", "/a/b/x.js", "/.js"], ["/x.jsx", "x.js"]),
        ("**/c", ["/c", "/a/b/c"], ["/c/", "/ac/d"]),
        ("**", ["", "/", "/a/b\n"], []),
        ("/a**b", ["/ab", "/a/x/b"], ["/a", "/b"]),
        ("/?", ["/a", "/é", "/\ufffd"], ["/", "//", "/ab"]),
        ("/file/?/**", ["/file/7/", "/file/7/x"], ["/file//x", "/file/77/x"]),
        ("/a.b+c(d)[e]{f}|g^$\\", ["/a.b+c(d)[e]{f}|g^$\\"], ["/aXb+c(d)[e]{f}|g^$\\"]),
        ("/{a,b}", ["/{a,b}"], ["/a", "/b"]),
        ("/日本/*", ["/日本/x"], ["/日/x"]),
        ("/a\nb/*", ["/a\nb/c\nd"], ["/a"]),
    ],
)
def test_path_glob_matches_the_whole_path(glob, yes, no):
    """Braces and brackets mean themselves: they stand in real paths."""
    expression = path_glob(glob)
    assert [text for text in yes if not matches(expression, text)] == []
    assert [text for text in no if matches(expression, text)] == []


@pytest.mark.parametrize(
    ("glob", "text"), [("a/**", "begins with"), ("", "begins with"), ("?a", "begins with"), ("/***", "'***'")]
)
def test_path_glob_that_means_nothing_is_refused_with_what_is_allowed(glob, text):
    with pytest.raises(PatternError, match=re.escape(text)):
        path_glob(glob)


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        (
            "XMLHttpRequest",
            ["XMLHttpRequest", "xmlhttprequest"],
            ["XMLHttpRequest, x", "", " xmlhttprequest"],
        ),
        ("*json*", ["application/json", "JSON", "a/json;q=1"], ["text/html"]),
        ("text/*", ["text/html", "TEXT/"], ["atext/html"]),
        ("?", ["a", "/"], ["", "ab"]),
        ("*", ["", "a/b, c"], []),
        ("a.b", ["A.B"], ["axb"]),
    ],
)
def test_value_glob_matches_the_whole_value_in_any_case(glob, yes, no):
    """In a value `/` is a character like any other."""
    assert [text for text in yes if not value_matches(glob, text)] == []
    assert [text for text in no if value_matches(glob, text)] == []


SEGMENTS = st.text("ab", max_size=2)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda segments: "/" + "/".join(segments))
GLOBS = st.lists(st.sampled_from(["a", "b", "*", "**", "?", "a*", "*b"]), min_size=1, max_size=4).map(
    lambda segments: "/" + "/".join(segments)
)


def naive(glob: str, path: str) -> bool:
    """The same by trying out, character for character; `/**/` may also be a single `/`."""
    if not glob:
        return not path
    if glob.startswith("/**/") and naive(glob[3:], path):
        return True
    if glob.startswith("**"):
        return any(naive(glob[2:], path[taken:]) for taken in range(len(path) + 1))
    if glob.startswith("*"):
        in_segment = len(path.partition("/")[0])
        return any(naive(glob[1:], path[taken:]) for taken in range(in_segment + 1))
    return (
        bool(path)
        and (path[0] == glob[0] or (glob[0] == "?" and path[0] != "/"))
        and naive(glob[1:], path[1:])
    )


@given(GLOBS, PATHS)
def test_translation_agrees_with_a_matcher_that_translates_nothing(glob, path):
    assert matches(path_glob(glob), path) == naive(glob, path)


@pytest.mark.parametrize("expression", ["/a(b|c)*", "(?i)/x", "/\\d+", ""])
def test_expression_that_re2_takes_is_returned(expression):
    assert check_regex(expression) == expression


@pytest.mark.parametrize(
    ("expression", "text"),
    [("(", "missing"), ("(?=a)", "perl operator"), ("a\\1", "escape"), ("[z-a]", "range")],
)
def test_expression_that_re2_does_not_take_is_refused_in_its_own_words(expression, text, capfd):
    """And nothing on standard error: the mistake is reported once, with its place in the file."""
    with pytest.raises(PatternError, match=text):
        check_regex(expression)
    assert capfd.readouterr().err == ""
