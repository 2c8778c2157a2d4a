"""The demo in words: pure functions from what was seen to text of at most 110 columns."""

from __future__ import annotations

import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proxy.demo.cache import Response
    from proxy.demo.scene import Scene
    from proxy.demo.stage import Stage

_NAME_WIDTH = 17
_VALUE_WIDTH = 42


def opening(stage: Stage) -> str:
    """Say what runs."""
    return (
        "A legacy Flask app under gunicorn, asked by a browser that caches as Internet Explorer does:\n"
        "three uploads, and after each the same XMLHttpRequest 'GET /file/last_uploaded'.\n"
        f"Rules: {stage.rules}"
    )


def scene(title: str, seen: Scene) -> str:
    """Say what the script was told, request by request."""
    lines = [f"\n{title} ({seen.site})"]
    for number, (uploaded, told, answer) in enumerate(
        zip(seen.uploads, seen.names, seen.answers, strict=True), 1
    ):
        source = "browser cache" if answer.is_from_cache else "app"
        verdict = "fresh" if told == uploaded else f"STALE, the app would say {uploaded}"
        lines.append(f"  upload {uploaded:<12} XHR {number}: {told:<12} from the {source:<14} {verdict}")
    return "\n".join(lines)


def fields(before: Response, after: Response) -> str:
    """Show the fields of one response without the proxy and behind it, side by side."""
    lines = ["\nFields of the first answer; * where they differ"]
    lines.append(f"  {'':<{_NAME_WIDTH}} {'without the proxy':<{_VALUE_WIDTH}} behind it")
    for name in _names(before, after):
        left, right = _joined(before, name), _joined(after, name)
        mark = " " if left == right or name == b"date" else "*"
        lines += _row(mark, _spelling(after if after.values(name) else before, name), left, right)
    return "\n".join(lines)


def access_log(lines: Sequence[str]) -> str:
    """Show the proxy's access log."""
    shown = lines or ["(nothing was logged)"]
    return "\n".join(("\nAccess log of the proxy", *(f"  {line}" for line in shown)))


def verdict(without: Scene, behind: Scene) -> str:
    """Say whether both halves of the story were seen."""
    bug = "the stale answer was repeated" if without.shows_bug else "NO stale answer was seen"
    cure = "every answer was fresh" if behind.shows_cure else "NOT every answer was fresh"
    return f"\nWithout the proxy {bug}; behind it {cure}."


def audit(view: str, alone: dict[str, Any], behind: dict[str, Any]) -> str:
    """Show what the audit says of the view, without the proxy and behind it, and the rule that it proposes."""
    lines = [f"\nThe audit of GET {view}"]
    for title, row in (("without the proxy", alone), ("behind it", behind)):
        text = f"{row['verdict'].upper()}: {row['why']}"
        lines += textwrap.wrap(text, 108, initial_indent=f"  {title:<18} ", subsequent_indent=" " * 21)
    lines += ["  It proposes this rule for the app:", *(f"  {line}" for line in alone["rule"].splitlines())]
    return "\n".join(lines)


def addresses(stage: Stage) -> str:
    """Say where to look while all is left running."""
    return (
        "\nLeft running until Ctrl-C:\n"
        f"  without the proxy  {stage.app}/\n"
        f"  behind the proxy   {stage.proxy}/\n"
        f"  side by side       {stage.app}/both   a clock that stands still without the proxy, in any browser\n"
        f"  admin listener     {stage.admin}/\n"
        f"  access log         {stage.access_log}"
    )


def _names(*responses: Response) -> list[bytes]:
    """Return every field name, lower case, in order of appearance."""
    return list(dict.fromkeys(name.lower() for response in responses for name, _ in response.fields))


def _spelling(response: Response, name: bytes) -> str:
    return next(spelt for spelt, _ in response.fields if spelt.lower() == name).decode("latin-1")


def _joined(response: Response, name: bytes) -> str:
    return " | ".join(value.decode("latin-1") for value in response.values(name)) or "-"


def _row(mark: str, name: str, left: str, right: str) -> Iterator[str]:
    columns = zip_longest(_wrapped(left), _wrapped(right), fillvalue="")
    for number, (before, after) in enumerate(columns):
        heading = f"{mark} {name}" if number == 0 else ""
        yield f"{heading:<{_NAME_WIDTH + 2}} {before:<{_VALUE_WIDTH}} {after}".rstrip()


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _VALUE_WIDTH, break_on_hyphens=False)
