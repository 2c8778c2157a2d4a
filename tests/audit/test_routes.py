"""Which paths are one route."""

from __future__ import annotations

import random

import pytest

from proxy.audit import routes
from proxy.audit.routes import (
    MAX_ROUTES,
    MAX_VALUES,
    MAX_WORDS,
    RouteTree,
    example_of,
    is_fingerprinted,
    segments_of,
    to_path,
)


class Hits:
    def __init__(self, paths=()):
        self.paths = set(paths)

    @property
    def responses(self) -> int:
        return len(self.paths)

    def merge(self, other):
        self.paths |= other.paths


def tree_of(paths, **bounds) -> RouteTree[Hits]:
    tree = RouteTree(Hits, **bounds)
    for path in paths:
        found = tree.find_or_add(segments_of(path.encode()))
        if found is not None:
            found.paths.add(path)
    return tree


def routes_of(tree) -> dict[str, set[str]]:
    return {to_path(route): hits.paths for route, hits in tree.items()}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/items/42", "/items/*"),
        ("/items/42/", "/items/*/"),
        ("/items/new", "/items/new"),
        ("/u/3fa85f64-5717-4562-b3fc-2c963f66afa6/edit", "/u/*/edit"),
        ("/commit/9fceb02d0ae598e95dc970b74767f19372d61af8", "/commit/*"),
        ("/reset/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/reset/*"),
        ("/2026-11-26", "/*"),
        ("/static/app.3f2a9c81.js", "/static/app.*.js"),
        ("/static/jquery-3.6.0.min.js", "/static/jquery-3.6.0.min.js"),
        ("/files/123.json", "/files/*.json"),
        ("/a//b", "/a/b"),
        ("/%69tems/4%32", "/items/*"),
        ("/cart;jsessionid=5AC6/pay;x", "/cart/pay"),
        ("/glob/*?", "/glob/*"),
        ("/%0A/b", "/*/b"),
        ("/" + "a/" * 20, "/a/a/a/a/a/a/a/a/a/a/a/**"),
    ],
)
def test_segments_that_look_like_values_are_folded(path, route):
    assert to_path(segments_of(path.encode())) == route


def test_of_a_path_without_end_only_the_beginning_is_looked_at(monkeypatch):
    folded = []
    monkeypatch.setattr(routes, "fold_segment", lambda segment: folded.append(segment) or segment)
    assert to_path(segments_of(b"/a" * 30_000)) == "/a" * 11 + "/**"
    assert len(folded) == 11


def test_more_than_twenty_values_beside_each_other_are_one_route():
    paths = [f"/users/User{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTU"]
    assert len(paths) == MAX_VALUES + 1
    assert len(routes_of(tree_of(paths[:-1]))) == MAX_VALUES
    assert routes_of(tree_of(paths)) == {"/users/*": set(paths)}


def test_an_app_may_have_a_hundred_views_beside_each_other():
    words = [f"/view-{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(MAX_WORDS + 1)]
    assert len(routes_of(tree_of(words[:-1]))) == MAX_WORDS
    assert routes_of(tree_of(words)) == {"/*": set(words)}


def test_folding_keeps_what_lies_below():
    paths = [f"/User{n}x/{view}" for n in range(MAX_VALUES + 5) for view in ("edit", "show")]
    routes = routes_of(tree_of(paths))
    assert set(routes) == {"/*/edit", "/*/show"}
    assert set().union(*routes.values()) == set(paths)


@pytest.mark.parametrize("seed", range(20))
def test_routes_do_not_depend_on_order_or_on_how_many_workers_saw_the_paths(seed):
    rng = random.Random(seed)
    names = [f"N{n}x" for n in range(30)] + ["words", "list", "edit", "a.json"]
    paths = list(
        {
            "/" + "/".join(rng.choice(names[rng.randrange(30) :]) for _ in range(rng.randint(1, 4)))
            for _ in range(400)
        }
    )
    one = tree_of(paths, max_routes=10_000)
    rng.shuffle(paths)
    parts = [tree_of(paths[start::4], max_routes=10_000) for start in range(4)]
    merged, *others = parts
    for other in others:
        assert merged.merge(other) == 0
    assert routes_of(merged) == routes_of(one)
    assert len(merged) == len(one) == len(routes_of(one))


def test_routes_are_bounded_and_those_with_most_answers_stay():
    paths = [f"/{a}{b}/{c}{d}/x" for a in "abcde" for b in "abcde" for c in "abcde" for d in "abcde"]
    tree = tree_of(paths)
    assert len(tree) == MAX_ROUTES == len(routes_of(tree))
    busy = tree_of(["/busy"])
    found = busy.find_or_add(("busy",))
    assert found is not None
    found.paths |= {"one", "more"}
    assert tree.merge(busy) == 1, "one answer of the route that had to go"
    assert "/busy" in routes_of(tree)
    assert len(tree) == MAX_ROUTES


def test_example_is_made_up_where_segments_were_folded():
    assert example_of(segments_of(b"/reset/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9/go")) == "/reset/1/go"


@pytest.mark.parametrize(
    ("path", "query", "is_so"),
    [
        (b"/app.3f2a9c81.js", b"", True),
        (b"/app-3f2a9c81de.min.js", b"", True),
        (b"/app.js", b"v=1.2", True),
        (b"/app.js", b"3f2a", True),
        (b"/app.js", b"", False),
        (b"/app.js", b"page=2", False),
        (b"/jquery-3.6.0.min.js", b"", True),
        (b"/react@18.v4_4_1m1795728950.3.1.min.js", b"", True),
        (b"/dash_renderer.v4_4_1m1795728949.min.js", b"", True),
        (b"/bootstrap-5.js", b"", False),
        (b"/chapter.2.js", b"", False),
        (b"/api", b"v=1", False),
    ],
)
def test_url_that_changes_with_its_content_is_recognised(path, query, is_so):
    assert is_fingerprinted(path, query) is is_so
