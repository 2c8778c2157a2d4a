"""Mistakes in a rules file as values with their places, so that all of them can be shown at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = "bool | int | str | list[Value] | dict[str, Value] | None"
"""A value of a rules file before it is checked."""
Step = str | int
Path = tuple[Step, ...]
"""Where a value stands in the file's tree: keys of mappings and indices of lists."""
Doubt = tuple[str, Path, str]
"""A code of `lint.CODES`, the path below the rule's conditions or the policy, and the text."""

_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong, or doubtful, in a rules file.

    Attributes:
        line, column: from 1, in characters; 0 when the file as a whole is meant.
        path: `rules[1].match.methods`; empty for the file as a whole.
        text: what was found and what is allowed.
        code: of a lint warning, stable; empty for a mistake.
        source: the file, as the operator named it.
    """

    line: int
    column: int
    path: str
    text: str
    code: str = ""
    source: str = "rules.yaml"

    def __str__(self) -> str:
        """Return `file:line:column: key.path: text`, which editors and CI systems turn into a link."""
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        kind = "warning: " if self.code else ""
        path = f"{self.path}: " if self.path else ""
        code = f" [{self.code}]" if self.code else ""
        return f"{place}: {kind}{path}{self.text}{code}"


class OldBoolean(str):
    """`yes`, `on`, `no` or `off` without quotes: text in YAML 1.2, a boolean in YAML 1.1."""

    __slots__ = ()

    @property
    def meaning(self) -> str:
        """The boolean that it is in YAML 1.1."""
        return "true" if self.lower() in ("yes", "on") else "false"


class RulesError(ValueError):
    """A rules file that cannot be used.

    Attributes:
        mistakes: all that could be found, in the order of the file, at least one.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))


def show_path(path: Path) -> str:
    """Write a path like `rules[1].match.methods`; keys with other characters are quoted."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif step.replace("-", "").replace("_", "").isalnum():
            shown += f".{step}" if shown else step
        else:
            shown += f"[{show_text(step)}]"
    return shown


def show_text(text: str) -> str:
    """Quote a text of the file, with control characters escaped, and cut off after 60 characters."""
    quoted = (
        ascii(text) if not text.isprintable() else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    )
    if "\\" in text and text.isprintable():
        quoted = f"'{text}'"  # a regex is shown as it was written
    return quoted if len(quoted) <= _LONGEST_SHOWN else quoted[: _LONGEST_SHOWN - 4] + "...'"


def show_value(value: object) -> str:
    """Name a value in a message: a scalar by itself, a list or mapping by its kind."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return show_text(value)
        case list() | tuple():
            return "a list" if value else "an empty list"
        case dict():
            return "a mapping" if value else "an empty mapping"
        case _:
            return str(value)


def did_you_mean(found: str, allowed: Collection[str]) -> str:
    """Return `, did you mean 'methods'?` when one of the allowed names is near, else an empty string."""
    near = nearest(found, allowed)
    return f", did you mean {show_text(near)}?" if near is not None else ""


def nearest(found: str, allowed: Collection[str]) -> str | None:
    """Return the allowed name that is most like what was found, without regard to case, `-` and `_`."""
    from difflib import get_close_matches  # noqa: PLC0415 - only needed when something is wrong

    folded = {_fold(name): name for name in allowed}
    close = get_close_matches(_fold(found), folded, n=1, cutoff=0.66)
    return folded[close[0]] if close else None


def _fold(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
