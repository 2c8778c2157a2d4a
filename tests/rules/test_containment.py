"""The contract of containment: when it says that one glob covers another, no path tells otherwise."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.rules.containment import glob_covers
from proxy.rules.globs import compile_quietly, path_glob

COVERED = [
    ("/**", "/a/b"),
    ("/a/**", "/a/b"),
    ("/a/**", "/a/*"),
    ("/a/**", "/a/**/b"),
    ("/a/*", "/a/b"),
    ("/a/*", "/a/?"),
    ("/a/?", "/a/b"),
    ("/**/*.js", "/static/app.js"),
    ("/**/*.js", "/static/**/x.js"),
    ("/a/**/b", "/a/b"),
    ("/a/**/b", "/a/x/y/b"),
    ("/a*", "/ab*"),
    ("/a**", "/a/**"),
]
NOT_COVERED = [
    ("/a/*", "/a/**"),
    ("/a/?", "/a/*"),
    ("/a/**", "/a*"),
    ("/a/**", "/a"),
    ("/a/b", "/a/?"),
    ("/**/*.js", "/static/**"),
    ("/a/**/b", "/a/**"),
    ("/ab*", "/a*"),
]


@pytest.mark.parametrize(("wide", "narrow"), COVERED)
def test_a_wider_glob_covers(wide, narrow):
    assert glob_covers(wide, narrow)


@pytest.mark.parametrize(("wide", "narrow"), NOT_COVERED)
def test_a_glob_that_misses_a_path_does_not_cover(wide, narrow):
    assert not glob_covers(wide, narrow)


GLOBS = st.lists(st.sampled_from(["/", "a", "b", "*", "**", "?", "/**/", "/a"]), max_size=6).map(
    lambda parts: re.sub(r"\*{3,}", "**", "/" + "".join(parts))
)


PATHS = [
    "/" + "".join(letters) for length in range(6) for letters in itertools.product("/abc", repeat=length)
]


@settings(max_examples=150, deadline=None)
@given(GLOBS, GLOBS)
def test_a_claim_agrees_with_every_short_path(wide, narrow):
    """Every path of up to six characters is tried."""
    wide_expression, narrow_expression = (compile_quietly(path_glob(glob)) for glob in (wide, narrow))
    witnesses = [p for p in PATHS if narrow_expression.fullmatch(p) and not wide_expression.fullmatch(p)]
    if glob_covers(wide, narrow):
        assert not witnesses
