"""The default run has a short form of every slow test: what is seldom run must not break unseen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# What has no short form, and why. The weekly run is all that these have.
ONLY_SLOW = {
    "audit/test_har.py: test_firefox_that_is_installed_writes_such_a_file": "CI installs Firefox for the slow run only",
    "audit/test_real_apps.py: pytestmark": "installs each app from PyPI",
}


def test_every_slow_test_has_a_short_form() -> None:
    """The marker stands at a parameter, so that the other parameters run the same function by default."""
    found = {
        f"{path.relative_to(TESTS)}: {name}"
        for path in TESTS.rglob("*.py")
        for name in marked_as_a_whole(path.read_text())
    }
    assert found == set(ONLY_SLOW)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("@pytest.mark.slow\ndef test_a(): ...", ["test_a"]),
        ("class TestA:\n    @pytest.mark.slow\n    async def test_b(self): ...", ["TestA"]),
        ("pytestmark = [pytest.mark.slow, pytest.mark.alone]", ["pytestmark"]),
        (
            "@pytest.mark.parametrize('n', [pytest.param(9, marks=pytest.mark.slow)])\ndef test_a(n): ...",
            ["test_a"],
        ),
        (
            "@pytest.mark.parametrize('n', [1, pytest.param(9, marks=[pytest.mark.slow])])\ndef test_a(n): ...",
            [],
        ),
        ("def sizes(a, b):\n    return [a, pytest.param(b, marks=pytest.mark.slow)]", []),
    ],
)
def test_slow_test_without_a_short_form_is_found(source: str, found: list[str]) -> None:
    assert list(marked_as_a_whole(source)) == found


def marked_as_a_whole(source: str) -> Iterator[str]:
    """Name each statement of a module that marks more than some of a test's parameters as slow."""
    for statement in ast.parse(source).body:
        marks = {id(node) for node in ast.walk(statement) if is_slow(node)}
        for node in ast.walk(statement):
            if isinstance(node, ast.List) and not all(is_slow_parameter(one) for one in node.elts):
                marks -= {id(mark) for one in node.elts if is_slow_parameter(one) for mark in ast.walk(one)}
        if marks:
            yield ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else statement.name


def is_slow(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.slow"


def is_slow_parameter(node: ast.AST) -> bool:
    """Whether this is a `pytest.param` with the marker, or unpacks some."""
    is_parameter = isinstance(node, ast.Starred) or (
        isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.param"
    )
    return is_parameter and any(is_slow(inner) for inner in ast.walk(node))
