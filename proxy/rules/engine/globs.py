"""Globs as RE2 expressions: `*` within a segment, `**` across segments, `?` one character."""

from __future__ import annotations

import re

import re2

_PARTS = re.compile(r"/\*\*(?=/)|\*\*|\*|\?|[^*?]+?(?=/\*\*/|[*?]|$)", re.DOTALL)


class PatternError(ValueError):
    """A glob or a regular expression that cannot be used; its text says why."""


def path_glob(glob: str) -> str:
    """Translate a glob on a path. `/**/` also stands for a single `/`.

    Raises:
        PatternError: it does not begin with `/` or `*`, or has a run of three stars.
    """
    if not glob.startswith(("/", "*")):
        raise PatternError("a path begins with '/'")
    if "***" in glob:
        raise PatternError("'***' means nothing; '*' stays within a segment, '**' crosses segments")
    return "".join(_translate(part) for part in _PARTS.findall(glob))


def value_glob(glob: str) -> str:
    """Translate a glob on a field value: `*` any run of characters, `?` one; without regard to case."""
    return "(?i)" + "".join(
        {"*": ".*", "?": "."}.get(part, re2.escape(part)) for part in re.split(r"([*?])", glob)
    )


def member_glob(glob: str) -> str:
    """Translate a glob on a member of a list: like `value_glob`, but for commas."""
    parts = [{"*": "[^,]*", "?": "[^,]"}.get(part, re2.escape(part)) for part in re.split(r"([*?])", glob)]
    return f"(?i:{''.join(parts)})"


def check_regex(expression: str) -> str:
    """Check that RE2 takes an expression; return it.

    Raises:
        PatternError: RE2's own words.
    """
    try:
        compile_quietly(expression)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        raise PatternError(detail.decode() if isinstance(detail, bytes) else str(detail)) from error
    return expression


def compile_quietly(expression: str) -> re2._Regexp[str]:
    """Compile without RE2's own line on standard error."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    return re2.compile(expression, options)


def _translate(part: str) -> str:
    match part:
        case "/**":  # zero or more whole segments; the `/` that follows is a part of its own
            return "(?:/.*)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _:
            return str(re2.escape(part))


def full_match(expression: str, text: str) -> bool:
    """Tell whether an RE2 expression matches the whole text."""
    return compile_quietly(expression).fullmatch(text) is not None
