"""Warnings about globs and regular expressions whose meaning is probably not what their author meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from proxy.rules.keys.glob_containment import may_agree, may_match_a_path
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.paths import PathRegexes, Paths
from proxy.rules.loading.diagnostics import Doubt, show_text

# Flask's <id>, shell braces and brackets, :id of other routers, regular-expression syntax, and lists in one text.
_FOREIGN: Final = re.compile(
    r"<[^/>]*>|\{[^/}]*\}|\[[^/\]]+\]|(?<=/):\w+|(?<=/)\.\*|\\.|\$$|\([^()]*\||\||,\s*/|\s+$"
)
_ESCAPE: Final = re.compile(r"%(?:[0-9A-Fa-f]|\[[^\]]*\]){2}")  # in expressions also `%2[fF]`
# As in a URL; a glob with one is refused.
_QUERY: Final = re.compile(r"(?:\\|\[)\?\]?[\w.-]+=")
_BEGINNING: Final = re.compile(r"\^[\w/.-]*/")
_SEGMENT_OF_GLOB: Final = re.compile(r"(?<!\\)/\*(?:/|$)")


def doubts_about_paths(conditions: Conditions) -> Iterator[Doubt]:
    """Find what is doubtful in the path patterns of `match` or `unless`."""
    paths, regexes = conditions.get(Paths), conditions.get(PathRegexes)
    for index, glob in enumerate(paths.texts if paths is not None else ()):
        for code, text in _about_glob(glob):
            yield code, ("paths", index), text
    for index, regex in enumerate(regexes.texts if regexes is not None else ()):
        for code, text in _about_regex(regex):
            yield code, ("path_regexes", index), text
    if paths is not None and regexes is not None and not may_agree(paths.texts, regexes.texts):
        text = (
            "no path matches both 'paths' and 'path_regexes', and a rule asks for both; write two rules, or all "
            "of it under path_regexes"
        )
        yield "apart", ("path_regexes",), text


def _about_glob(glob: str) -> Iterator[tuple[str, str]]:
    foreign = _FOREIGN.search(glob)
    if foreign:
        text = (
            f"{show_text(foreign[0])} means only itself in a glob; write * for one segment and ** for any number "
            "of them, list several globs, or use path_regexes"
        )
        yield "foreign-pattern", text
    yield from _about_escapes(glob)


def _about_regex(regex: str) -> Iterator[tuple[str, str]]:
    shown, rest = show_text(regex), regex.removeprefix("^")
    if not may_match_a_path(regex):
        text = (
            f"{shown} is compared with the whole path, which begins with '/', so it matches none; did you mean "
            f"{show_text('/' + rest)} or {show_text('.*' + rest)}?"
        )
        yield "regex-without-slash", text
    if _BEGINNING.fullmatch(regex):
        text = (
            f"{shown} is compared with the whole path, so it matches {show_text(rest)} alone; write "
            f"{show_text(regex + '.*')} for all below it"
        )
        yield "unfinished-regex", text
    if _SEGMENT_OF_GLOB.search(regex):
        text = (
            f"{shown} is a regular expression, in which /* stands for slashes; write it under paths, or '[^/]*' "
            "for one segment and '.*' for any number of them"
        )
        yield "glob-in-regex", text
    if _QUERY.search(regex):
        text = (
            f"{shown} is compared with the path, without a query, so it matches no request with one; write the "
            "path alone"
        )
        yield "query-in-path", text
    yield from _about_escapes(regex)


def _about_escapes(pattern: str) -> Iterator[tuple[str, str]]:
    if _ESCAPE.search(pattern):
        text = (
            f"paths are compared decoded, so {show_text(pattern)} matches only what is encoded twice; write the "
            "character itself"
        )
        yield "encoded-path", text
