"""Whether whatever one condition lets through another does too: how lint finds rules that cannot be reached.

Answers `True` only when it is certain; what it cannot tell (regular expressions, mostly) is `False`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from typing import Final

import re2

from proxy.rules.engine.conditions import field_holds
from proxy.rules.engine.globs import compile_quietly, path_glob
from proxy.rules.engine.matching import X_REQUESTED_WITH
from proxy.rules.model import Conditions, FieldCondition, ResponseConditions

_MAX_STATES: Final = 400
_RANGE_BYTES: Final = 64
_PARTS = re.compile(r"/\*\*(?=/)|\*\*|\*|\?|.", re.DOTALL)
_OTHER: Final = "\x01"  # stands for every character that neither glob names


def covers(wide: Conditions, narrow: Conditions) -> bool:
    """Tell whether every request and response that `narrow` holds for, `wide` holds for too."""
    return (
        (wide.methods is None or (narrow.methods is not None and narrow.methods <= wide.methods))
        and covers_paths(wide, narrow)
        and covers_fields(wide, narrow)
        and _covers_response(wide.response, narrow.response)
    )


def covers_paths(wide: Conditions, narrow: Conditions) -> bool:
    """Tell whether `wide` lets through every path that `narrow` does."""
    if wide.path_regexes is not None and not (
        narrow.path_regexes and set(narrow.path_regexes) <= set(wide.path_regexes)
    ):
        return False
    if wide.paths is None or any(_is_every_path(glob) for glob in wide.paths):
        return True
    return narrow.paths is not None and all(_any_covers(wide.paths, glob) for glob in narrow.paths)


def covers_fields(wide: Conditions, narrow: Conditions) -> bool:
    """Tell whether `wide` asks of request fields nothing that `narrow` does not ensure."""
    if wide.script_request is not None and wide.script_request != narrow.script_request:
        asks = wide.script_request and any(_names_xml_http_request(condition) for condition in narrow.fields)
        if not asks:
            return False
    return all(any(_implies(known, asked) for known in narrow.fields) for asked in wide.fields)


def are_apart(one: Conditions, other: Conditions) -> bool:
    """Tell whether nothing that one holds for, by method and response, the other can hold for."""
    if one.methods is not None and other.methods is not None and one.methods.isdisjoint(other.methods):
        return True
    if one.response is None or other.response is None:
        return False
    types = one.response.content_types, other.response.content_types
    if all(types) and not any(_may_agree(*pair) for pair in itertools.product(*types)):
        return True
    return {one.response.attachment, other.response.attachment} == {True, False}


def _may_agree(one: str, other: str) -> bool:
    """Tell by what stands before their first sign whether two globs on a value may match the same."""
    (one_literal, one_sign, _), (other_literal, other_sign, _) = (
        re.sub("[*?]", "*", glob.lower()).partition("*") for glob in (one, other)
    )
    return (bool(one_sign) and other_literal.startswith(one_literal)) or (
        one_literal.startswith(other_literal) and (bool(other_sign) or one_literal == other_literal)
    )


def may_match_a_path(expression: str) -> bool:
    """Tell whether an expression can match something that begins with `/`, or `*` alone."""
    least, most = _range(expression)
    return (least < b"0" and most >= b"/") or least <= b"*" <= most


def paths_agree(conditions: Conditions) -> bool:
    """Tell whether some path may match both the globs and the regular expressions."""
    if not conditions.paths or not conditions.path_regexes:
        return True
    globs = [_range(path_glob(glob)) for glob in conditions.paths]
    regexes = [_range(regex) for regex in conditions.path_regexes]
    return any(
        least <= other_most and other_least <= most
        for least, most in globs
        for other_least, other_most in regexes
    )


@lru_cache(maxsize=4096)
def _range(expression: str) -> tuple[bytes, bytes]:
    """Return bounds, by bytes, of all that an expression matches as a whole."""
    try:
        least, most = compile_quietly(expression).possiblematchrange(_RANGE_BYTES)
    except re2.error:  # it matches nearly anything
        return b"", b"\xff"
    return least, most


def glob_covers(wide: str, narrow: str) -> bool:
    """Tell whether every path that the glob `narrow` matches, `wide` matches too."""
    return wide == narrow or _is_every_path(wide) or (_may_cover(wide, narrow) and _search(wide, narrow))


def _is_every_path(glob: str) -> bool:
    return glob in ("/**", "**", "/**/**")


def _any_covers(globs: Iterable[str], narrow: str) -> bool:
    return any(glob_covers(glob, narrow) for glob in globs)


def _names_xml_http_request(condition: FieldCondition) -> bool:
    is_named = condition.name.lower() == X_REQUESTED_WITH.lower() and bool(condition.globs)
    return is_named and all(glob.lower() == "xmlhttprequest" for glob in condition.globs)


def _implies(known: FieldCondition, asked: FieldCondition) -> bool:
    if known.name.lower() != asked.name.lower():
        return False
    if asked.present is not None or known.present is not None:
        is_present = True if known.present is None else known.present
        return asked.present is is_present
    if known.by_member and not asked.by_member:
        return False
    return all(
        glob in asked.globs or ("*" not in glob and "?" not in glob and field_holds(asked, glob))
        for glob in known.globs
    )


def _covers_response(wide: ResponseConditions | None, narrow: ResponseConditions | None) -> bool:
    return wide is None or wide == narrow


def _may_cover(wide: str, narrow: str) -> bool:
    """Rule out most pairs by two paths that `narrow` matches; a thousand rules make half a million pairs."""
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
    """Walk both globs side by side; find no text that `narrow` takes and `wide` does not."""
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
    """A glob as an automaton: a state is the number of parts that are done; `.5` is inside a `/**`."""

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
        """Add the states that need no character: a star may stand for nothing."""
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
