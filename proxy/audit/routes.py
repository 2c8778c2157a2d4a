"""Many paths, few routes: segments that vary are folded into `*`, so that the audit has one line for each view.

A tree of segments. A segment that looks like a value (digits, UUID, hexadecimal, token) is folded at once. Others are
folded where one place in the tree has seen too many: more than 20 different ones; of plain lower-case words 100, as an
app has that many views beside each other. Folding depends only on the set of paths, not on their order, so the trees
of several workers can be merged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Generic, Protocol, Self, TypeVar
from urllib.parse import unquote_to_bytes

MAX_VALUES: Final = 20
MAX_WORDS: Final = 100
MAX_ROUTES: Final = 500
_MAX_DEPTH: Final = 12
_MAX_SEGMENT: Final = 64
ANY: Final = "*"
DEEP: Final = "**"

_VALUE: Final = re.compile(
    r"[0-9][0-9.,:_-]*"
    r"|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?=[a-fA-F]*[0-9])[0-9a-fA-F]{7,}"
    r"|(?=[^.]*[0-9])[A-Za-z0-9_~=+-]{16,}"
    r"|[A-Za-z0-9_~=+-]{33,}"
)
_FILE: Final = re.compile(r"(?P<stem>.+)(?P<extension>\.[A-Za-z][A-Za-z0-9]{0,9})")
_WORD: Final = re.compile(r"[a-z]+(?:[_-][a-z]+){0,3}(?:\.[a-z]{1,5})?")
_PLAIN: Final = re.compile(r"[\w .,:@!$&'()+=~-]+")
_FINGERPRINT: Final = re.compile(r"(?P<head>.*[._-])(?=[a-fA-F]*[0-9])[0-9a-fA-F]{7,64}(?=[._-]|$)")

_VERSION: Final = re.compile(r".*[._@-]v?[0-9]+(?:[._][0-9]+)+(?:m[0-9]+)?(?=[._-]|$)")


class Countable(Protocol):
    """What hangs on a route."""

    @property
    def responses(self) -> int:
        """How much is known: where there is no room, routes with the fewest are dropped."""

    def merge(self, other: Self) -> None:
        """Take in what another knows of the same route."""


T = TypeVar("T", bound=Countable)
Shape = tuple[frozenset[str], dict[str, Any]]
"""What is folded at a place, and the shapes below it by segment."""


def segments_of(path: bytes) -> tuple[str, ...]:
    """Split a raw path into decoded segments, those that look like a value already folded.

    Path parameters (`;jsessionid=...`) are left out. What lies deeper than 12 segments is one `**`.
    """
    decoded = unquote_to_bytes(path).decode("utf-8", "replace")
    raw = [segment.partition(";")[0] for segment in decoded.split("/")[1:]]
    *inner, last = raw or [""]
    kept = [segment for segment in inner if segment]
    if len(kept) >= _MAX_DEPTH:  # a client may send thousands, and to fold one takes microseconds
        return (*map(fold_segment, kept[: _MAX_DEPTH - 1]), DEEP)
    return (*map(fold_segment, kept), fold_segment(last) if last else "")


def fold_segment(segment: str) -> str:
    """Return a segment as it stands in a route: `*` for a value, `app-*.js` for a fingerprinted file name."""
    file = _FILE.fullmatch(segment)
    if file is not None and len(segment) <= _MAX_SEGMENT:
        stem = file["stem"]
        fingerprint = _FINGERPRINT.match(stem)
        if fingerprint is not None and fingerprint["head"]:
            stem = fingerprint["head"] + ANY
        elif _VALUE.fullmatch(stem):
            stem = ANY
        return (stem if _is_plain(stem.rstrip(ANY)) else ANY) + file["extension"]
    if len(segment) > _MAX_SEGMENT or _VALUE.fullmatch(segment) or not _is_plain(segment):
        return ANY
    return segment


def is_fingerprinted(path: bytes, query: bytes) -> bool:
    """Tell whether a URL changes with its content: a hash or a version in the file name, or in the query."""
    name = path.rpartition(b"/")[2].decode("latin-1")
    file = _FILE.fullmatch(name)
    if file is None:
        return False
    stem = file["stem"]
    if _FINGERPRINT.match(stem) or _VERSION.match(stem) or _VALUE.fullmatch(stem):
        return True
    return re.fullmatch(rb"(?:v|ver|version|hash|h|rev|m|t)?=?[0-9A-Za-z._-]{1,64}", query) is not None


def to_path(route: tuple[str, ...]) -> str:
    """Write a route as a glob of a rules file."""
    return "/" + "/".join(route)


def example_of(route: tuple[str, ...]) -> str:
    """Return a path that stands for a route: made up where segments were folded, so that it tells nothing."""
    return "/" + "/".join(segment.replace(DEEP, "a/b").replace(ANY, "1") for segment in route)


class RouteTree(Generic[T]):
    """Routes with what is known of each.

    Args:
        make: makes what hangs on a new route.
        max_routes: beyond these, new routes are refused.

    Attributes:
        folds: how often routes have been folded into one.
    """

    def __init__(self, make: Callable[[], T], max_routes: int = MAX_ROUTES) -> None:
        self._root: _Node[T] = _Node()
        self._make = make
        self._max_routes = max_routes
        self._count = 0
        self.folds = 0

    def __len__(self) -> int:
        return self._count

    def find_or_add(self, path: tuple[str, ...], *, reserve: int = 0) -> T | None:
        """Return what hangs on a path's route.

        Args:
            path: from `segments_of`.
            reserve: how many routes must stay free for others.

        Returns:
            `None` where the route is new and there is no room for it.
        """
        is_full = self._count >= self._max_routes - reserve
        node = self._root
        for segment in path:
            child = node.child(segment)
            if child is None:
                if is_full and not node.is_folded_by(segment):
                    return None
                if node.add(segment):
                    self.folds += 1
                    self._count = sum(1 for _ in self._root.items(()))
                child = node.child(segment)
                assert child is not None
            node = child
        if node.value is None:
            if is_full:
                return None
            node.value = self._make()
            self._count += 1
        return node.value

    def merge(self, other: RouteTree[T]) -> int:
        """Take in another tree, which must not be used any more.

        Returns:
            How many responses belonged to routes for which there was no room.
        """
        self._root.absorb(other._root)
        routes = sorted(self._root.items(()), key=lambda item: (-item[1].responses, item[0]))
        self._count = min(len(routes), self._max_routes)
        dropped = 0
        for route, value in routes[self._max_routes :]:
            dropped += value.responses
            self._root.forget(route)
        return dropped

    def items(self) -> Iterator[tuple[tuple[str, ...], T]]:
        """Return every route with what hangs on it, sorted."""
        return iter(sorted(self._root.items(()), key=lambda item: item[0]))

    def shape(self) -> Shape:
        """Return the tree without what hangs on it, as plain values."""
        return self._root.shape()

    def restore(self, shape: Shape, routes: Iterable[tuple[tuple[str, ...], T]]) -> None:
        """Become the tree that once had this shape and these routes."""
        self._root.restore(shape)
        for route, value in routes:
            self._root.attach(route, value)
            self._count += 1


class _Node(Generic[T]):
    """A place in the tree: what hangs on it, and the segments that come after it."""

    __slots__ = ("_children", "_folded_kinds", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self._children: dict[str, _Node[T]] = {}
        self._folded_kinds: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        return self.value is None and not self._children

    def child(self, segment: str) -> _Node[T] | None:
        return self._children.get(self._name_of(segment))

    def is_folded_by(self, segment: str) -> bool:
        """Whether one more child, this one, is too many of its kind."""
        kind = _kind_of(segment)
        return kind in _LIMITS and len(self._alike(kind)) >= _LIMITS[kind]

    def add(self, segment: str) -> bool:
        """Add a child; return whether that has folded others."""
        is_folded = self.is_folded_by(segment)
        if is_folded:
            self._fold(_kind_of(segment))
        self._children.setdefault(self._name_of(segment), _Node())
        return is_folded

    def absorb(self, other: _Node[T]) -> None:
        """Take in all that hangs on another node and below it."""
        for kind in other._folded_kinds - self._folded_kinds:
            self._fold(kind)
        if self.value is None:
            self.value = other.value
        elif other.value is not None:
            self.value.merge(other.value)
        for segment, theirs in other._children.items():
            if self.child(segment) is None:
                self.add(segment)
            mine = self.child(segment)
            assert mine is not None
            mine.absorb(theirs)

    def forget(self, route: tuple[str, ...]) -> None:
        """Take off what hangs on a route, and the branch that led only there."""
        if not route:
            self.value = None
            return
        child = self._children[route[0]]
        child.forget(route[1:])
        if child.is_empty:
            del self._children[route[0]]

    def shape(self) -> Shape:
        return self._folded_kinds, {segment: child.shape() for segment, child in self._children.items()}

    def restore(self, shape: Shape) -> None:
        self._folded_kinds, children = shape
        for segment, below in children.items():
            self._children[segment] = _Node()
            self._children[segment].restore(below)

    def attach(self, route: tuple[str, ...], value: T) -> None:
        if route:
            self._children[route[0]].attach(route[1:], value)
        else:
            self.value = value

    def items(self, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], T]]:
        if self.value is not None:
            yield above, self.value
        for segment, child in self._children.items():
            yield from child.items((*above, segment))

    def _name_of(self, segment: str) -> str:
        return ANY if _kind_of(segment) in self._folded_kinds else segment

    def _alike(self, kind: str) -> list[str]:
        return [name for name in self._children if _kind_of(name) == kind]

    def _fold(self, kind: str) -> None:
        self._folded_kinds |= {kind}
        names = self._alike(kind)
        if names:
            into = self._children.setdefault(ANY, _Node())
            for name in names:
                into.absorb(self._children.pop(name))


_LIMITS: Final = {"word": MAX_WORDS, "value": MAX_VALUES}


def _kind_of(segment: str) -> str:
    if segment in ("", ANY, DEEP):
        return "fixed"
    return "word" if _WORD.fullmatch(segment) else "value"


def _is_plain(segment: str) -> bool:
    """Whether a segment can stand in a glob and in a line of text as it is."""
    return not segment or (_PLAIN.fullmatch(segment) is not None and segment.isprintable())
