"""Reads YAML into values that know their line and column, and reports what YAML libraries accept without a word.

PyYAML's loaders keep the last of two equal keys, forget positions, and expand aliases without a bound. So this module
builds the tree itself, from the parser's events, with a stack instead of recursion. It reads plain scalars by the YAML
1.2 core schema, as editors do: `yes` and `off` are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import yaml

from proxy.rules.loading.diagnostics import (
    Mistake,
    OldBoolean,
    Path,
    did_you_mean,
    show_path,
    show_text,
    show_value,
)
from proxy.rules.loading.document import Document, Node, Place
from proxy.rules.loading.yaml_syntax import explain_syntax

MAX_SIZE_BYTES: Final = 1 << 20
"""The limit of a Kubernetes ConfigMap."""
MAX_DEPTH: Final = 20
"""Of nesting; the schema needs 6."""
MAX_VALUES: Final = 200_000
"""After aliases are expanded; 1,000 rules have about 20,000."""

_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
# A tab between a key and its value: YAML and libyaml allow it, PyYAML's parser in Python does not.
_SEPARATION = re.compile(r"(?<=[:,\[{-])[ \t]*\t[ \t]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OLD_BOOLEANS: Final = frozenset(("yes", "no", "on", "off"))
_TEXT_TAGS: Final = ("!", "tag:yaml.org,2002:str")
_PLAIN_TAGS: Final = {"mapping": "tag:yaml.org,2002:map", "list": "tag:yaml.org,2002:seq"}
_MERGE: Final = "<<"
_EMPTY: Final = "the file is empty, allowed: at least 'version: 1' and 'rules:'"


def read(data: bytes, source: str) -> Document:
    """Read one YAML document.

    Args:
        data: the file's bytes: UTF-8, with or without a byte order mark, with any line ends.
        source: the file's name in messages.

    Returns:
        The document, without a root if a mistake makes the rest unreadable.
    """
    reader = _Reader(source)
    root = reader.read(data)
    return Document(source, root, tuple(reader.mistakes))


@dataclass(slots=True)
class _Open:
    """A list or mapping that has begun and not ended."""

    node: Node
    anchor: str | None
    path: Path
    key: str | None = None
    key_place: Place = (0, 0)
    is_merge: bool = False
    merges: list[tuple[Place, Node]] = field(default_factory=list)
    awaits_key: bool = True


class _StopReadingError(Exception):
    """The rest of the file cannot be read; the mistake is noted."""


class _Reader:
    """Builds the tree of one document from the parser's events."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.mistakes: list[Mistake] = []

    def read(self, data: bytes) -> Node | None:
        text = self._decode(data)
        if text is None:
            return None
        fast = getattr(yaml, "CSafeLoader", None)
        if fast is not None:
            try:
                return self._compose(text, fast)
            except (yaml.YAMLError, UnicodeError):
                self.mistakes.clear()
        try:  # the parser in Python has clearer messages, which are the same with and without libyaml
            return self._compose(_SEPARATION.sub(_blank, text), yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            self._note(*explain_syntax(error))
        return None

    def _decode(self, data: bytes) -> str | None:
        if len(data) > MAX_SIZE_BYTES:
            self._note((0, 0), f"found more than {MAX_SIZE_BYTES} bytes, allowed: {MAX_SIZE_BYTES}")
            return None
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            self._note((1, 1), "found UTF-16, allowed: UTF-8; save the file with that encoding")
            return None
        data = data.removeprefix(b"\xef\xbb\xbf")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            place = _place_in(data[: error.start].decode("utf-8"))
            found = f"found the byte 0x{data[error.start]:02x} that is not UTF-8"
            self._note(place, f"{found}, allowed: UTF-8; save the file with that encoding")
            return None
        strange = _FORBIDDEN.search(text)
        if strange:
            character = f"U+{ord(strange[0]):04X}"
            place = _place_in(text[: strange.start()])
            self._note(
                place, f"found the invisible character {character}, allowed: visible ones, spaces and tabs"
            )
            return None
        return text

    def _compose(self, text: str, loader: type[yaml.SafeLoader]) -> Node | None:
        builder = _Builder(self._note)
        try:
            for event in yaml.parse(text, Loader=loader):
                builder.take(event)
        except _StopReadingError:
            return None
        if builder.root is None or (builder.root.content is None and not builder.has_text):
            self._note((1, 1), _EMPTY)
            return None
        return builder.root

    def _note(self, place: Place, text: str, path: Path = ()) -> None:
        self.mistakes.append(Mistake(*place, show_path(path), text, source=self.source))


class _Builder:
    """Builds the tree from one event after the other; its stack holds the open lists and mappings."""

    def __init__(self, note: Callable[..., None]) -> None:
        self.root: Node | None = None
        self.has_text = False
        self._note = note
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        assert mark is not None
        place = (mark.line + 1, mark.column + 1)
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, place)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event, place)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(str(event.anchor), place)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._note(place, "found a second document, allowed: one; delete the '---'")
                    raise _StopReadingError

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        half = _SURROGATE.search(event.value)
        if half:
            code = f"\\u{ord(half[0]):04x}"
            self._note(
                place,
                f"found the escape {code}, which is half of a surrogate pair; write the character itself",
            )
            raise _StopReadingError
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.node.content, dict) and top.awaits_key:
            self._key(top, event, place)
            if event.anchor is not None:
                self._anchors[event.anchor] = Node(place, event.value)
            return
        self.has_text = self.has_text or bool(event.value)
        self._check_tag(event.tag, "value", place)
        is_text = not event.implicit[0] or event.tag in _TEXT_TAGS
        node = Node(place, event.value if is_text else _resolve(event.value))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._add(node, place)

    def _key(self, top: _Open, event: yaml.ScalarEvent, place: Place) -> None:
        self._check_tag(event.tag, "key", place)
        top.awaits_key = False
        top.key, top.key_place = event.value, place
        top.is_merge = event.value == _MERGE and event.implicit[0]
        if event.value in top.node.keys and not top.is_merge:
            first = top.node.keys[event.value][0]
            self._note(place, f"duplicate key; the first is in line {first}", (*top.path, event.value))

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, place: Place) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if self._stack and isinstance(self._stack[-1].node.content, dict) and self._stack[-1].awaits_key:
            kind = "a mapping" if is_mapping else "a list"
            hint = "; put text that begins with '{' or '[' in quotes" if event.flow_style else ""
            self._note(place, f"found {kind} as a key, allowed: text{hint}", self._stack[-1].path)
            raise _StopReadingError
        if len(self._stack) >= MAX_DEPTH:
            self._note(place, f"found more than {MAX_DEPTH} levels, allowed: {MAX_DEPTH}")
            raise _StopReadingError
        kind = "mapping" if is_mapping else "list"
        self._check_tag(event.tag, kind, place)
        node = Node(place, {} if is_mapping else [])
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(node, event.anchor, self._next_path()))

    def _close(self) -> None:
        closed = self._stack.pop()
        self._merge(closed)
        members = closed.node.content
        nodes = list(members.values() if isinstance(members, dict) else members)
        closed.node.size = 1 + sum(node.size for node in nodes)
        closed.node.depth = 1 + max((node.depth for node in nodes), default=0)
        if closed.node.size > MAX_VALUES:
            self._note(
                closed.node.place,
                f"found more than {MAX_VALUES} values with aliases expanded, allowed: {MAX_VALUES}",
            )
            raise _StopReadingError
        if len(self._stack) + closed.node.depth > MAX_DEPTH + 1:
            self._note(
                closed.node.place,
                f"found more than {MAX_DEPTH} levels with aliases expanded, allowed: {MAX_DEPTH}",
            )
            raise _StopReadingError
        if closed.anchor is not None:
            self._anchors[closed.anchor] = closed.node
        self._add(closed.node, closed.node.place)

    def _alias(self, name: str, place: Place) -> None:
        top = self._stack[-1] if self._stack else None
        if name not in self._anchors:
            hint = did_you_mean(name, self._anchors) or f"; text that begins with '*' needs quotes: '*{name}'"
            self._note(
                place, f"found the alias *{name} but no anchor &{name} before it{hint}", self._next_path()
            )
            node = Node(place, None)
        else:
            target = self._anchors[name]
            if target is None:
                self._note(place, f"found the alias *{name} inside its own anchor &{name}", self._next_path())
            node = target or Node(place, None)
        if top is not None and isinstance(top.node.content, dict) and top.awaits_key:
            if node.content is None:
                raise _StopReadingError
            if not isinstance(node.content, str):
                self._note(place, f"found {show_value(node.content)} as a key, allowed: text", top.path)
                raise _StopReadingError
            self._key(top, yaml.ScalarEvent(None, None, (False, True), node.content), place)
            return
        if node.size > 1 and top is not None:
            top.node.size += node.size  # so that the sum has its bound before the list or mapping ends
            if top.node.size > MAX_VALUES:
                self._note(
                    place, f"found more than {MAX_VALUES} values with aliases expanded, allowed: {MAX_VALUES}"
                )
                raise _StopReadingError
        self.has_text = True
        self._add(node, place)

    def _add(self, node: Node, place: Place) -> None:
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        if isinstance(top.node.content, list):
            top.node.content.append(node)
            return
        assert top.key is not None
        top.awaits_key = True
        if top.is_merge:
            top.merges.append((place, node))
        elif top.key not in top.node.keys:
            top.node.content[top.key] = node
            top.node.keys[top.key] = top.key_place

    def _merge(self, closed: _Open) -> None:
        """Add the keys of the mappings that `<<` names. A key of the mapping itself wins, then the first of several."""
        for place, node in closed.merges:
            sources = node.content if isinstance(node.content, list) else [node]
            for merged in sources:
                if not isinstance(merged.content, dict):
                    found = show_value(merged.content)
                    self._note(
                        place,
                        f"found {found}, allowed: an alias of a mapping, or a list of those",
                        (*closed.path, _MERGE),
                    )
                    continue
                for key, value in merged.content.items():
                    if key not in closed.node.content:
                        closed.node.content[key] = value
                        closed.node.keys[key] = merged.keys[key]

    def _next_path(self) -> Path:
        if not self._stack:
            return ()
        top = self._stack[-1]
        if isinstance(top.node.content, list):
            return (*top.path, len(top.node.content))
        return top.path if top.key is None else (*top.path, top.key)

    def _check_tag(self, tag: str | None, kind: str, place: Place) -> None:
        if tag is None or tag == _PLAIN_TAGS.get(kind) or (kind in ("value", "key") and tag in _TEXT_TAGS):
            return
        shown = "!!" + tag.removeprefix("tag:yaml.org,2002:") if tag.startswith("tag:yaml.org,2002:") else tag
        self._note(place, f"found the tag {show_text(shown)}, allowed: no tag", self._next_path())


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _resolve(text: str) -> bool | int | str | None:
    """Read a plain scalar. A number is only what is written back as the same text, so `007` is text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text.lower() in _OLD_BOOLEANS:
        return OldBoolean(text)
    return int(text) if _INT.fullmatch(text) else text


def _place_in(before: str) -> Place:
    """Return line and column of the character after this text. CRLF, CR and LF end a line."""
    lines = re.split("\r\n|\r|\n", before)
    return len(lines), len(lines[-1]) + 1
