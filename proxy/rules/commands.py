"""The commands that work on a rules file, as functions: text to print and an exit code, nothing printed here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.rules.mistakes import Mistake, RulesError

if TYPE_CHECKING:
    from proxy.rules.loading import RulesFile

# Each command imports what it needs: `serve` and `healthcheck` share the command line with them.


def check(path: Path, *, strict: bool = False, as_json: bool = False) -> tuple[int, str]:
    """Check a rules file: every mistake, every warning, every failing test.

    Args:
        strict: warnings fail the check too.
        as_json: one JSON object instead of lines.

    Returns:
        The exit code (0 or 1) and the text.
    """
    from proxy.rules import cases, lint, loading  # noqa: PLC0415

    try:
        rules_file = loading.load(path)
    except RulesError as error:
        return _report(path, None, list(error.mistakes), strict=strict, as_json=as_json)
    found = sorted([*cases.run(rules_file), *lint.lint(rules_file)])
    return _report(path, rules_file, found, strict=strict, as_json=as_json)


def schema() -> str:
    """Return the JSON Schema of a rules file, as `config/rules.schema.json` holds it."""
    from proxy.rules.schema import json_schema  # noqa: PLC0415

    return json.dumps(json_schema(), indent=2, ensure_ascii=False)


def _report(
    path: Path, rules_file: RulesFile | None, found: Sequence[Mistake], *, strict: bool, as_json: bool
) -> tuple[int, str]:
    warnings = [mistake for mistake in found if mistake.code]
    is_ok = not found if strict else len(warnings) == len(found)
    if as_json:
        return (0 if is_ok else 1), json.dumps(_as_json(path, rules_file, found, is_ok=is_ok), ensure_ascii=False)
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
    return f"{_count(failures, 'failure')} in {_count(cases, 'test')}" if failures else f"{_count(cases, 'test')} passed"


def _verdict(failures: int, *, is_ok: bool) -> str:
    if failures:
        return "; a running proxy keeps its old rules"
    return "" if is_ok else "; --strict takes warnings for mistakes"


def _count(number: int, what: str) -> str:
    if not number:
        return f"no {what}s"
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _as_json(path: Path, rules_file: RulesFile | None, found: Sequence[Mistake], *, is_ok: bool) -> dict[str, Any]:
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
