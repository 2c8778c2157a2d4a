"""A YAML document as a tree of values with their places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from proxy.rules.loading.diagnostics import Mistake, Path, Value, show_path

Place = tuple[int, int]
"""Line and column, from 1, columns in characters; a tab is one."""


@dataclass(slots=True, eq=False)
class Node:
    """A value of the file; an alias is the very node of its anchor.

    Attributes:
        content: a scalar's value, a list of nodes, or a mapping of keys to nodes.
        keys: where each key of a mapping stands.
        size, depth: of the subtree, aliases expanded.
    """

    place: Place
    content: Any  # scalar, list[Node] or dict[str, Node]: narrowed where it is used
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    depth: int = 1

    def plain(self) -> Value:
        """Return the value with everything below, as `dict`, `list`, `str`, `int`, `bool` and `None`."""
        match self.content:
            case dict():
                return {key: node.plain() for key, node in self.content.items()}
            case list():
                return [node.plain() for node in self.content]
            case _:
                return cast("Value", self.content)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document.

    Attributes:
        root: `None` when it could not be read.
        mistakes: of YAML itself, in order.
    """

    source: str
    root: Node | None
    mistakes: tuple[Mistake, ...] = ()

    def place_of(self, path: Path, *, key: bool = False) -> Place:
        """Return the place of the value at `path`, or of its key; of the nearest value above it if there is none.

        A step into a scalar is skipped: the scalar stands for a list of one member.
        """
        node, place = self.root, (1, 1)
        for step in path:
            if node is None:
                break
            if not isinstance(node.content, (dict, list)):
                break
            place = node.keys.get(step, node.place) if isinstance(step, str) else node.place
            members: Any = node.content
            try:
                node = members[step]
            except (KeyError, IndexError, TypeError):
                return place
        else:
            if node is not None and not (key and path and isinstance(path[-1], str)):
                return node.place
        return place if key or node is None else node.place

    def reach(self, path: Path) -> Path:
        """Cut a path before a step into a scalar, which stands for a list of one member."""
        node = self.root
        for index, step in enumerate(path):
            if node is None or not isinstance(node.content, (dict, list)):
                return path[:index]
            members: Any = node.content
            try:
                node = members[step]
            except (KeyError, IndexError, TypeError):
                return path
        return path

    def mistake(self, path: Path, text: str, *, key: bool = False, code: str = "") -> Mistake:
        """Make a mistake at the place of a path's value, or of its key."""
        line, column = self.place_of(path, key=key)
        return Mistake(line, column, show_path(path), text, code, self.source)
