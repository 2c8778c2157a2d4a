"""Rewrites the messages of PyYAML's parser for somebody who has to correct a file."""

from __future__ import annotations

import re
from typing import Final

import yaml

from proxy.rules.loading.diagnostics import show_text


def explain_syntax(error: yaml.MarkedYAMLError) -> tuple[tuple[int, int], str]:
    """Return line and column of an error, from 1, and a text that says how to correct it."""
    problem, context = error.problem or "cannot be read", error.context or ""
    mark = error.context_mark if "alias" in context or "anchor" in context else error.problem_mark
    mark = mark or error.problem_mark or error.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    began = ""
    if error.context_mark is not None and error.context_mark.line + 1 != place[0]:
        began = f" that began in line {error.context_mark.line + 1}"
    for problem_pattern, context_pattern, text in _TEXTS:
        if re.search(problem_pattern, problem) and re.search(context_pattern, context):
            return place, text.format(began=began, what=_last_quoted(problem))
    return place, f"not YAML: {problem}{f' ({context}{began})' if context else ''}"


def _last_quoted(problem: str) -> str:
    found = re.findall(r"""(?:found|got|character) (?:'([^']+)'|"([^"]+)")""", problem)
    text = "".join(found[-1]) if found else ""
    return _TOKENS.get(text, show_text(text)) if text else "something else"


_TOKENS: Final = {
    "<scalar>": "a text",
    "<alias>": "an alias",
    "<anchor>": "an anchor",
    "<tag>": "a tag",
    "<stream end>": "the end of the file",
    "<document end>": "'...'",
    "<document start>": "'---'",
    "<block end>": "the end of a block",
    "<block mapping start>": "a mapping with another indentation",
    "<block sequence start>": "a list with another indentation",
    "-": "a list with another indentation",
    "?": "a key with another indentation",
}
"""PyYAML's names of tokens, in plain words."""

_TEXTS: Final = (
    (r"found character '\\t'", "", "found a tab, allowed: spaces; YAML indents with spaces only"),
    (
        "cannot start any token",
        "",
        "found text that begins with {what}; the character has a meaning in YAML, so put the text in quotes",
    ),
    (
        "",
        "scanning an alias",
        "found text that begins with '*'; to YAML that is an alias, so put the text in quotes",
    ),
    (
        "",
        "scanning an anchor",
        "found text that begins with '&'; to YAML that is an anchor, so put the text in quotes",
    ),
    (
        "unknown escape character",
        "",
        "found a backslash before {what} in double quotes; use single quotes, in which a backslash is an ordinary character",
    ),
    (
        "unexpected end of stream",
        "quoted scalar",
        "found the end of the file in a quoted text{began}; close the quote",
    ),
    (
        "unexpected document separator",
        "quoted scalar",
        "found '---' or '...' in a quoted text{began}; close the quote",
    ),
    (
        r"expected ',' or '\]'",
        "",
        "found {what} in a list in [ ]{began}; close it with ']' or put ',' between its members",
    ),
    (
        r"expected ',' or '\}'",
        "",
        "found {what} in a mapping in {{ }}{began}; close it with '}}' or put ',' between its entries",
    ),
    (
        "mapping values are not allowed here",
        "",
        "found ':' where no key is allowed; correct the indentation, or put text that contains ': ' in quotes",
    ),
    (
        "sequence entries are not allowed here",
        "",
        "found '- ' where no list is allowed; correct the indentation or begin a new line",
    ),
    (
        "could not find expected ':'",
        "",
        "found a line without ':' where a key{began} must end; write 'key: value'",
    ),
    (
        "expected <block end>",
        "block mapping",
        "found {what} where the next key of the mapping{began} was expected; correct the indentation or quotes",
    ),
    (
        "expected <block end>",
        "block collection",
        "found {what} where the next '- ' of the list{began} was expected; correct the indentation",
    ),
)
