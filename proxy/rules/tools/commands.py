"""The commands that work on a rules file, as functions that return what to print and an exit code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.message.errors import MessageError
from proxy.message.fields import Field, is_token
from proxy.rules.loading.diagnostics import Mistake, RulesError, show_text

if TYPE_CHECKING:
    from proxy.rules.loading.loader import RulesFile
    from proxy.rules.tools.dry_run import TrialRequest, TrialResponse
    from proxy.rules.tools.explain import Explanation
    from proxy.rules.tools.explain_text import Caches

# Each command imports what it needs: `serve` and `healthcheck` share the command line with them.


def check(path: Path, *, strict: bool = False, as_json: bool = False) -> tuple[int, str]:
    """Check a rules file: every mistake, every warning, every failing test.

    Args:
        path: `-` is standard input.
        strict: warnings fail the check too.
        as_json: one JSON object instead of lines.

    Returns:
        The exit code (0 or 1) and the text.
    """
    from proxy.rules.tools import lint, rule_tests

    try:
        rules_file = _load(path)
    except RulesError as error:
        return _report(path, None, list(error.mistakes), strict=strict, as_json=as_json)
    found = sorted([*rule_tests.run(rules_file), *lint.lint(rules_file)])
    return _report(path, rules_file, found, strict=strict, as_json=as_json)


def against(
    path: Path, old: Path, also: Sequence[tuple[TrialRequest, TrialResponse]] = (), *, as_json: bool = False
) -> tuple[int, str]:
    """Report the decisions that change from one rules file to another.

    Args:
        path, old: the new file and the present one.
        also: what to try besides the tests and rules of both, such as routes that an audit knows.

    Returns:
        The exit code (0, or 1 when a file cannot be used) and the text.
    """
    from proxy.rules.tools.against import changes

    loaded = []
    for file in (old, path):
        try:
            loaded.append(_load(file))
        except RulesError as error:
            return _report(file, None, list(error.mistakes), strict=False, as_json=as_json)
    found = changes(loaded[0], loaded[1], also)
    if as_json:
        rows = [
            {
                "method": change.request.method,
                "target": change.request.target.decode("utf-8", "backslashreplace"),
                "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in change.request.fields],
                "before": change.before,
                "after": change.after,
            }
            for change in found
        ]
        return 0, json.dumps({"file": str(path), "against": str(old), "changes": rows}, ensure_ascii=False)
    count = _count(len(found), "decision")
    return 0, "\n".join([*map(str, found), f"{path} against {old}: {count} changed"])


def explain(
    path: Path,
    method: str,
    target: str,
    *,
    fields: Sequence[Field] = (),
    status: int = 200,
    response_fields: Sequence[Field] = (),
    now: bytes | None = None,
    caches_of: Callable[[Explanation], Caches] | None = None,
    as_json: bool = False,
) -> tuple[int, str]:
    """Explain what the rules of a file do with a request and the app's response to it.

    Args:
        target: the request target as a client sends it.
        fields, response_fields: in wire order; see `parse_field`.
        now: an IMF-fixdate, for a response without `Date`; the current one where it is not given.
        caches_of: tells what caches may do with the response; the audit knows.

    Returns:
        The exit code (0, or 1 when the file cannot be used or the request is refused) and the text.
    """
    from proxy.rules.loading import loader
    from proxy.rules.tools import dry_run, explain_text
    from proxy.rules.tools.explain import explain as explain_request

    try:
        rules_file = loader.load(path)
    except RulesError as error:
        return _report(path, None, list(error.mistakes), strict=False, as_json=as_json)
    request = dry_run.TrialRequest(method, target.encode("utf-8", "surrogateescape"), tuple(fields))
    response = dry_run.TrialResponse(status, tuple(response_fields))
    try:
        explanation = explain_request(
            rules_file.ruleset, request, response, now=now or dry_run.current_date()
        )
    except MessageError as error:
        return 1, _refusal(error, method, as_json=as_json)

    def place_of(index: int) -> str:
        return f"{path}:{rules_file.document.place_of(('rules', index))[0]}"

    caches = None if caches_of is None else caches_of(explanation)
    if as_json:
        return 0, json.dumps(explain_text.to_json(explanation, place_of, caches), ensure_ascii=False)
    return 0, explain_text.to_text(explanation, place_of, caches)


def parse_field(text: str) -> Field:
    """Read `Name: value` as curl's `-H` does; `Name:` and `Name;` have an empty value.

    Raises:
        ValueError: it is no field; its text says why.
    """
    name, colon, value = text.partition(":")
    if not colon and text.endswith(";"):
        name, colon = text[:-1], ":"
    if not colon or not is_token(name.encode("utf-8", "surrogateescape")):
        raise ValueError(f"found {show_text(text)}, allowed: 'Name: value'")
    raw = value.strip(" \t").encode("utf-8", "surrogateescape")  # the bytes as they were typed
    if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", raw):
        raise ValueError(f"found a control character in {show_text(text)}, allowed: visible characters")
    return name.encode("ascii"), raw


def schema() -> str:
    """Return the JSON Schema of a rules file, as `config/rules.schema.json` holds it."""
    from proxy.rules.loading.json_schema import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False)


def _load(path: Path) -> RulesFile:
    from proxy.rules.loading import loader

    if str(path) == "-":
        return loader.loads(sys.stdin.buffer.read(loader.MAX_SIZE_BYTES + 1), "-")
    return loader.load(path)


def _refusal(error: MessageError, method: str, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"refused": {"status": error.status, "reason": str(error)}})
    meant = method.upper()
    hint = f" Methods are in upper case: did you mean {meant}?" if meant != method else ""
    return f"The proxy answers {error.status} itself, under the strict policy: {error}.{hint}"


def _report(
    path: Path, rules_file: RulesFile | None, found: Sequence[Mistake], *, strict: bool, as_json: bool
) -> tuple[int, str]:
    warnings = [mistake for mistake in found if mistake.code]
    is_ok = not found if strict else len(warnings) == len(found)
    if as_json:
        return (0 if is_ok else 1), json.dumps(
            _as_json(path, rules_file, found, is_ok=is_ok), ensure_ascii=False
        )
    lines = [str(mistake) for mistake in found]
    mistakes = len(found) - len(warnings)
    if rules_file is None:
        lines.append(f"{path}: {_count(mistakes, 'mistake')}; this file cannot be used")
    else:
        what = f"{_count(len(rules_file.rules), 'rule')}, {_tests(len(rules_file.cases), mistakes)}"
        lines.append(f"{path}: {what}, {_count(len(warnings), 'warning')}{_verdict(mistakes, is_ok=is_ok)}")
    return (0 if is_ok else 1), "\n".join(lines)


def _tests(cases: int, failures: int) -> str:
    if not cases:
        return "no tests"
    return (
        f"{_count(failures, 'failure')} in {_count(cases, 'test')}"
        if failures
        else f"{_count(cases, 'test')} passed"
    )


def _verdict(failures: int, *, is_ok: bool) -> str:
    if failures:
        return "; a running proxy keeps its old rules"
    return "" if is_ok else "; --strict counts warnings as mistakes"


def _count(number: int, what: str) -> str:
    if not number:
        return f"no {what}s"
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _as_json(
    path: Path, rules_file: RulesFile | None, found: Sequence[Mistake], *, is_ok: bool
) -> dict[str, Any]:
    return {
        "file": str(path),
        "ok": is_ok,
        "digest": None if rules_file is None else rules_file.digest,
        "rules": None if rules_file is None else [rule.name for rule in rules_file.rules],
        "tests": None if rules_file is None else len(rules_file.cases),
        "found": [
            {
                "severity": "warning" if mistake.code else "mistake",
                "line": mistake.line or None,
                "column": mistake.column or None,
                "path": mistake.path,
                "text": mistake.text,
                "code": mistake.code or None,
            }
            for mistake in found
        ],
    }
