"""The tree of directories: what it says is what RE2 says of the same globs, and where it cannot tell it does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.rules.engine.path_sets import PathSet
from proxy.rules.engine.path_tree import PathTree
from proxy.rules.keys.globs import full_match, path_glob

SEGMENTS = st.sampled_from(["", "a", "b", "ab", "é", ".", "a\nb", "*"])
PATHS = st.lists(SEGMENTS, max_size=4).map(lambda segments: "/" + "/".join(segments))
PARTS = st.sampled_from(["", "a", "b", "ab", "é", "*", "**", "?", "a*", "a**", "?b"])
GLOBS = st.one_of(
    st.lists(PARTS, max_size=4).map(lambda segments: "/" + "/".join(segments)),
    st.lists(st.sampled_from(["a", "b", ""]), max_size=3).map(
        lambda segments: "/".join(["", *segments, "**"])
    ),
    st.sampled_from(["**", "**/a", "/**", "/", "/**/a/**", "/**/a/b/**", "/**/ab/**"]),
)


def tree(*globs: str, is_partial: bool = False) -> PathTree:
    return PathTree([(glob, f"glob {glob}") for glob in globs], is_partial=is_partial)


@given(st.lists(GLOBS, max_size=5, unique=True), PATHS)
def test_tree_agrees_with_re2_or_leaves_it_to_it(globs, path):
    """The law: no rule is found that does not match, and none is missed."""
    found = tree(*globs).match(path)
    by_re2 = {f"glob {glob}" for glob in globs if full_match(path_glob(glob), path)}
    assert found is None or found == by_re2


@given(st.lists(GLOBS, max_size=5, unique=True), st.lists(PATHS, min_size=1, max_size=5))
def test_set_answers_as_each_of_its_expressions_does(globs, paths):
    """Whoever is asked, tree or RE2, for the first time or again."""
    paths_set = PathSet()
    for glob in globs:
        paths_set.add(f"glob {glob}")
    for path in [*paths, *paths]:
        hits = paths_set.match(path)
        assert hits == {f"glob {glob}" for glob in globs if full_match(path_glob(glob), path)}


@pytest.mark.parametrize(
    ("globs", "path", "matching"),
    [
        ([], "/x", []),
        (["/**"], "/", ["/**"]),
        (["**"], "/a/b", ["**"]),
        (["/a/**"], "/a", []),
        (["/a/**"], "/a/", ["/a/**"]),
        (["/a/**", "/a/b/**", "/a/b/c"], "/a/b/c", ["/a/**", "/a/b/**", "/a/b/c"]),
        (["/a/**", "/a/b/**", "/a/b/c"], "/a/b/c/", ["/a/**", "/a/b/**"]),
        (["/a/**", "/a/b/**", "/a/b/c"], "/a/x", ["/a/**"]),
        (["/a", "/a/"], "/a/", ["/a/"]),
        (["/a/*", "/b/**"], "/b/c", ["/b/**"]),
        (["/a/*/x", "/b"], "/c/d/e", []),
        (["/日本/**"], "/日本/x", ["/日本/**"]),
    ],
)
def test_path_is_told_by_its_directories(globs, path, matching):
    assert tree(*globs).match(path) == {f"glob {glob}" for glob in matching}


@pytest.mark.parametrize(
    ("globs", "path"),
    [
        (["/a/*", "/a/b"], "/a/b"),
        (["/a/*"], "/a/b/c/d"),
        (["/a*"], "/x"),
        (["**/c"], "/x"),
        (["/a/**/b"], "/a/x"),
        (["/a**"], "/a"),
        (["/file/?/**"], "/file/7/x"),
        (["/a"], "*"),
    ],
)
def test_path_that_a_wildcard_could_match_is_left_to_re2(globs, path):
    assert tree(*globs).match(path) is None


def test_regular_expressions_may_match_anywhere():
    """So nothing is told by directories where there is one."""
    assert tree("/a/**", is_partial=True).match("/a/b") is None


def test_set_of_directories_never_asks_re2():
    """And nothing of what a peer makes up is kept."""
    paths = PathSet()
    paths.add("glob /api/**")
    paths.add("glob /static/**")
    for number in range(100):
        paths.match(f"/api/{number}")
    assert paths._all is None
    assert not paths._answers


def test_directory_anywhere_is_found_without_re2():
    paths = PathSet()
    for glob in ("/**/static/**", "/api/**"):
        paths.add(f"glob {glob}")
    for path, matching in {
        "/static/x": ["/**/static/**"],
        "/app/static/": ["/**/static/**"],
        "/api/static/x": ["/**/static/**", "/api/**"],
        "/app/static": [],
        "/statics/x": [],
    }.items():
        assert paths.match(path) == {f"glob {glob}" for glob in matching}
    assert paths._all is None


def test_answers_of_re2_are_remembered_within_bounds():
    paths = PathSet()
    paths.add("glob /api/*/x")
    for number in range(3000):
        paths.match(f"/api/{number}/x")
        assert len(paths._answers) <= 1024
    paths.match("/api/" + "x" * 2000)
    assert max(map(len, paths._answers)) <= 1024


def test_what_is_added_later_counts():
    """An answer given before says nothing of it."""
    paths = PathSet()
    paths.add("glob /a/*")
    assert paths.match("/a/b") == {"glob /a/*"}
    paths.add("regex /a/b")
    assert paths.match("/a/b") == {"glob /a/*", "regex /a/b"}


def test_of_many_globs_each_is_looked_for_by_a_piece_of_it():
    """The set of RE2 would make a state for each byte of a path never seen before: it took a second, compiled or not."""
    globs = [f"/**/*x{number}*/**" for number in range(1000)] + [
        "/**/a/**",
        "**y",
        "/a/*/b?",
        "/exact",
        "/**/?",
    ]
    paths = PathSet()
    for glob in globs:
        paths.add(f"glob {glob}")
    for path in (
        "/a/x7/b",
        "/a/x77y/",
        "/a/b",
        "/exact",
        "/a/c/bd",
        "/x1x2/",
        "/" + "b" * 4000 + "x999/",
        "/z",
    ):
        assert paths.match(path) == {f"glob {glob}" for glob in globs if full_match(path_glob(glob), path)}
    assert len(paths._regexes) == 0


@settings(max_examples=15)
@given(st.lists(GLOBS, min_size=70, max_size=90, unique=True), PATHS)
def test_many_globs_are_answered_as_each_of_them_is(globs, path):
    paths = PathSet()
    for glob in globs:
        paths.add(f"glob {glob}")
    for each in (path, path + "/a" * 130):
        assert paths.match(each) == {f"glob {glob}" for glob in globs if full_match(path_glob(glob), each)}


def test_long_path_and_many_expressions_are_not_compared():
    """Nobody has such paths; the rules then take the path for any."""
    paths = PathSet()
    for number in range(1000):
        paths.add(f"regex /.*x{number}.*")
    assert paths.match("/a/x7") == {"regex /.*x7.*"}
    assert paths.match("/a/x7/" + "b" * 1000) is None
