"""The contract of lint: each doubt is raised where it is due, says what to do, and is silent elsewhere."""

from __future__ import annotations

import re

import pytest

from proxy.rules.loading.loader import loads
from proxy.rules.tools.lint import CODES, lint
from tests.rules import golden_files

GOLDEN = golden_files.read_all("golden_lint")


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_each_file_gets_exactly_its_warnings(golden):
    """Files named `sound-*` are near misses: nothing may be said about them."""
    found = "\n".join(map(str, lint(loads(golden.data, "rules.yaml"))))
    assert found == golden.expected
    assert (found == "") is golden.name.startswith("sound-")


def test_every_code_is_shown_by_a_file_named_after_it():
    shown = {
        code for golden in GOLDEN for code in re.findall(r" \[([a-z0-9-]+)\]$", golden.expected, re.MULTILINE)
    }
    assert shown == set(CODES)
    for golden in GOLDEN:
        code = golden.name if golden.name in CODES else re.sub(r"-\d+$", "", golden.name)
        assert golden.name.startswith("sound-") or f"[{code}]" in golden.expected


def test_hundreds_of_rules_are_compared_pair_by_pair():
    """Most pairs are told apart by how their paths begin; the one that is not must still be found."""
    rules = [
        f"  - {{name: r{n}, match: {{methods: GET, paths: [/app{n}/**, /x/app{n}]}}}}" for n in range(300)
    ]
    rules.append("  - {name: last, match: {methods: GET, paths: [/app7/b]}}")
    found = lint(loads("\n".join(["version: 1", "rules:", *rules]).encode(), "rules.yaml"))
    assert [(mistake.path, mistake.code) for mistake in found] == [("rules[300].name", "unreachable-rule")]
