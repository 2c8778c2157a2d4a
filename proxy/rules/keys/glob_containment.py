"""Tells whether one glob matches everything that another matches, so that lint finds rules that never apply.

The answer is `True` only when it is certain.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import takewhile
from typing import Final

import re2

from proxy.rules.keys.globs import compile_quietly, path_glob

_MAX_STATES: Final = 400
_RANGE_BYTES: Final = 64
_PARTS = re.compile(r"/\*\*(?=/)|\*\*|\*|\?|.", re.DOTALL)
_OTHER: Final = "\x01"  # stands for every character that neither glob names


def glob_covers(wide: str, narrow: str) -> bool:
    """Tell whether the glob `wide` matches every path that `narrow` matches."""
    return wide == narrow or is_every_path(wide) or (_may_cover(wide, narrow) and _search(wide, narrow))


def is_every_path(glob: str) -> bool:
    """Tell whether a glob matches every path."""
    return glob in ("/**", "**", "/**/**")


def may_match_a_path(expression: str) -> bool:
    """Tell whether an expression can match something that begins with `/`, or `*` alone."""
    least, most = _range(expression)
    return (least < b"0" and most >= b"/") or least <= b"*" <= most


def may_agree(globs: tuple[str, ...], regexes: tuple[str, ...]) -> bool:
    """Tell whether some path may match both one of the globs and one of the regular expressions."""
    ranges = [_range(regex) for regex in regexes]
    return any(
        least <= other_most and other_least <= most
        for least, most in (_range(path_glob(glob)) for glob in globs)
        for other_least, other_most in ranges
    )


@lru_cache(maxsize=4096)
def _range(expression: str) -> tuple[bytes, bytes]:
    """Return bounds, in byte order, of the texts that an expression can match."""
    try:
        least, most = compile_quietly(expression).possiblematchrange(_RANGE_BYTES)
    except re2.error:  # it matches nearly anything
        return b"", b"\xff"
    return least, most


def _may_cover(wide: str, narrow: str) -> bool:
    """Rule out most pairs by trying two paths that `narrow` matches: a thousand rules make half a million pairs."""
    prefix, shortest, longer = _prefix(wide), *_examples(narrow)
    if not (shortest.startswith(prefix) and longer.startswith(prefix)):
        return False
    expression = compile_quietly(path_glob(wide))
    return expression.fullmatch(shortest) is not None and expression.fullmatch(longer) is not None


@lru_cache(maxsize=4096)
def _prefix(glob: str) -> str:
    return "".join(takewhile(lambda part: part not in ("*", "**", "?", "/**"), _PARTS.findall(glob)))


@lru_cache(maxsize=4096)
def _examples(glob: str) -> tuple[str, str]:
    parts = _PARTS.findall(glob)
    shortest = {"/**": "", "**": "", "*": "", "?": _OTHER}
    longer = {"/**": f"/{_OTHER}/{_OTHER}", "**": f"/{_OTHER}/{_OTHER}", "*": _OTHER, "?": _OTHER}
    return "".join(shortest.get(p, p) for p in parts), "".join(longer.get(p, p) for p in parts)


@lru_cache(maxsize=4096)
def _search(wide: str, narrow: str) -> bool:
    """Walk both automata side by side; return whether no text leads to an end of `narrow` alone."""
    narrow_glob, wide_glob = _Glob(narrow), _Glob(wide)
    alphabet = sorted(set(narrow + wide) - set("*?") | {"/", _OTHER})
    start = (narrow_glob.start, wide_glob.start)
    seen, todo = {start}, [start]
    while todo:
        if len(seen) > _MAX_STATES:
            return False
        narrow_states, wide_states = todo.pop()
        if narrow_glob.accepts(narrow_states) and not wide_glob.accepts(wide_states):
            return False
        for character in alphabet:
            step = (narrow_glob.step(narrow_states, character), wide_glob.step(wide_states, character))
            if step[0] and step not in seen:
                seen.add(step)
                todo.append(step)
    return True


class _Glob:
    """A glob as an automaton. A state is the number of parts that have matched; `.5` is inside a `/**`."""

    def __init__(self, glob: str) -> None:
        self._parts = _PARTS.findall(glob)
        self.start = self._close({0.0})

    def accepts(self, states: frozenset[float]) -> bool:
        return float(len(self._parts)) in states

    def step(self, states: frozenset[float], character: str) -> frozenset[float]:
        following: set[float] = set()
        for state in states:
            if state != int(state):
                following.add(state)
                continue
            part = self._parts[int(state)] if state < len(self._parts) else ""
            if part == "**" or (part == "*" and character != "/"):
                following.add(state)
            elif part == "/**" and character == "/":
                following.add(state + 0.5)
            elif part == character or (part == "?" and character != "/"):
                following.add(state + 1)
        return self._close(following)

    def _close(self, states: set[float]) -> frozenset[float]:
        """Add the states that are reached without a character, as a star also matches no text."""
        todo = list(states)
        while todo:
            state = todo.pop()
            is_inside = state != int(state)
            skips = is_inside or (state < len(self._parts) and self._parts[int(state)] in ("*", "**", "/**"))
            following = float(int(state) + 1)
            if skips and following not in states:
                states.add(following)
                todo.append(following)
        return frozenset(states)
