"""The contract of lint: each doubt is raised where it is due, is silent where it is not, and says what to do."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from proxy.rules.lint import CODES, lint
from proxy.rules.loading import loads

HEAD = "version: 1\nrules:\n"


def warnings(rules: str, rest: str = "") -> list[tuple[str, str]]:
    text = HEAD + indent(dedent(rules).strip("\n"), "  ") + "\n" + dedent(rest)
    found = lint(loads(text.encode(), "rules.yaml"))
    return [(mistake.path, mistake.code) for mistake in found]


def codes(rules: str, rest: str = "") -> set[str]:
    return {code for _, code in warnings(rules, rest)}


XHR = "match: {methods: GET, paths: [/a/**], script_request: true}"
POLICY_FIRST = "- {name: a, match: {methods: GET, paths: [/a/**]}, policy: mine}"

DOUBTFUL = {
    "no-rules": [("", "", "rules")],
    "unreachable-rule": [
        ("- {name: a, match: {paths: [/**]}, policy: pass}\n- {name: b, match: {paths: [/b]}, policy: pass}", "", "rules[1].name"),
        ("- {name: a, match: {paths: [/b/**]}}\n- {name: b, match: {paths: [/b/c]}}", "", "rules[1].name"),
        ("- {name: a, match: {paths: [/b/**]}}\n- {name: b, match: {paths: [/b/c], methods: GET}}", "", "rules[1].name"),
        ("- {name: a, match: {paths: [/b/**]}}\n- {name: b, match: {paths: [/b/c]}, policy: pass}", "", "rules[1].name"),
        (
            f"- {{name: a, {XHR}}}\n- {{name: b, match: {{methods: GET, paths: [/a/b], x_requested_with: XMLHttpRequest}}}}",
            "",
            "rules[1].name",
        ),
        (
            "- {name: a, match: {paths: /b/**, headers: {Accept: true}}}\n"
            "- {name: b, match: {paths: /b/c, headers: {accept: '*json*'}}}",
            "",
            "rules[1].name",
        ),
        (
            "- {name: a, match: {paths: /b/**}, unless: {paths: /b/x}}\n- {name: b, match: {paths: /b/c}, unless: {paths: /b/x}}",
            "",
            "rules[1].name",
        ),
    ],
    "never-applies": [("- {name: a, match: {paths: [/a/b], methods: GET}, unless: {paths: [/a/**]}}", "", "rules[0].unless")],
    "late-exception": [
        (
            "- {name: a, match: {methods: GET, paths: [/**], script_request: true}}\n"
            "- {name: b, match: {paths: [/file/download/**]}, policy: pass}",
            "",
            "rules[1].name",
        ),
    ],
    "matches-everything": [
        ("- {name: a}", "", "rules[0]"),
        ("- {name: a, match: {paths: ['/**']}}", "", "rules[0].match"),
        ("- {name: a, match: {methods: [GET]}}", "", "rules[0].match"),
        ("- {name: a, policy: pass}", "", "rules[0]"),
    ],
    "x-requested-with-only": [
        ("- {name: a, match: {methods: GET, paths: [/a], x_requested_with: XMLHttpRequest}}", "", "rules[0].match.x_requested_with"),
        ("- {name: a, match: {methods: GET, paths: [/a], headers: {x-requested-with: XMLHttpRequest}}}", "", "rules[0].match.headers"),
        (
            "- {name: a, match: {methods: GET, paths: [/a/**], x_requested_with: true}}\n"
            "- {name: b, match: {methods: GET, paths: [/a/b], script_request: true}}",
            "",
            "rules[0].match.x_requested_with",
        ),
        (
            "- {name: a, match: {methods: GET, paths: [/a/**], x_requested_with: true}}\n"
            "- {name: b, match: {methods: GET, paths: [/a/**], script_request: true}, mode: observe}",
            "",
            "rules[0].match.x_requested_with",
        ),
    ],
    "post-navigation": [
        ("- {name: a, match: {methods: [GET, POST], paths: [/a/**]}}", "", "rules[0].match.methods"),
        ("- {name: a, match: {paths: ['/**']}}", "", "rules[0].match"),
    ],
    "pass-by-field": [
        ("- {name: a, match: {paths: [/a], headers: {X-Cache-Me: yes}}, policy: pass}", "", "rules[0].match"),
        ("- {name: a, match: {paths: [/a], script_request: true}, policy: revalidate}", "", "rules[0].match"),
    ],
    "costly-vary": [
        ("- {name: a, match: {methods: GET, paths: [/a], headers: {cookie: '*session*'}}}", "", "rules[0].match.headers.cookie"),
        ("- {name: a, match: {methods: GET, paths: [/a]}, unless: {headers: {User-Agent: '*bot*'}}}", "", "rules[0].unless.headers.User-Agent"),
    ],
    "classic-for-shared-caches": [
        ("- {name: a, match: {methods: GET, paths: [/a/**]}, policy: classic}", "", "rules[0].policy"),
    ],
    "unused-policy": [(f"- {{name: a, {XHR}}}", "policies: {mine: {extends: strict}}", "policies.mine")],
    "weakened-policy": [
        (POLICY_FIRST, "policies: {mine: {set: {Cache-Control: no-cache}}}", "policies.mine.set.Cache-Control"),
        (POLICY_FIRST, "policies: {mine: {remove: [Cache-Control]}}", "policies.mine"),
    ],
    "unknown-directive": [
        (POLICY_FIRST, "policies: {mine: {set: {Cache-Control: 'no-store, max-age=0, must-revalidat'}}}", "policies.mine.set.Cache-Control"),
    ],
    "undone-no-store": [
        (POLICY_FIRST, "policies: {mine: {set: {cache-control: 'no-store, must-understand, max-age=0'}}}", "policies.mine.set.cache-control"),
        (POLICY_FIRST, "policies: {mine: {set: {Cache-Control: 'no-store, private=\"x\", max-age=0'}}}", "policies.mine.set.Cache-Control"),
    ],
    "validators-kept": [
        (POLICY_FIRST, "policies: {mine: {conditionals: keep}}", "policies.mine.conditionals"),
        (POLICY_FIRST, "policies: {mine: {etag: keep}}", "policies.mine.etag"),
    ],
    "idle-observer": [("- {name: a, match: {paths: [/a]}, policy: pass, mode: observe}", "", "rules[0].mode")],
    "encoded-path": [("- {name: a, match: {methods: GET, paths: ['/a%20b']}}", "", "rules[0].match.paths")],
    "regex-without-slash": [("- {name: a, match: {methods: GET, path_regexes: ['api/.*']}}", "", "rules[0].match.path_regexes")],
    "status-304": [
        ("- {name: a, match: {methods: GET, paths: [/a], response: {status: [304]}}}", "", "rules[0].match.response.status"),
    ],
    "lost-304": [("- {name: a, match: {methods: GET, response: {status: 404}}}", "", "rules[0].match.response")],
}


def test_every_code_has_its_example():
    assert DOUBTFUL.keys() == CODES.keys()


@pytest.mark.parametrize(
    ("code", "rules", "rest", "path"),
    [(code, *example) for code, examples in DOUBTFUL.items() for example in examples],
)
def test_what_is_doubtful_is_warned_about_where_it_stands(code, rules, rest, path):
    text = f"version: 1\nrules: []\n{rest}" if not rules else None
    found = (
        [(m.path, m.code) for m in lint(loads(text.encode(), "r"))] if text is not None else warnings(rules, rest)
    )
    assert (code in {c for _, c in found}), found
    assert any(c == code and shown.startswith(path) for shown, c in found), found


SOUND = {
    "narrow before wide": "- {name: a, match: {methods: GET, paths: [/a/b]}, policy: pass}\n- {name: b, match: {methods: GET, paths: [/a/**]}}",
    "observe shadows nothing": "- {name: a, match: {methods: GET, paths: [/a/**]}, mode: observe}\n- {name: b, match: {methods: GET, paths: [/a/b]}}",
    "an exception leaves something over": (
        "- {name: a, match: {methods: GET, paths: [/a/**]}, unless: {paths: [/a/b/**]}}\n"
        "- {name: b, match: {methods: GET, paths: [/a/b/c]}}"
    ),
    "another method": "- {name: a, match: {methods: GET, paths: [/a/**]}}\n- {name: b, match: {methods: [GET, PUT], paths: [/a/**]}}",
    "a weakening rule leaves odd spellings to an enforcing one": (
        "- {name: a, match: {methods: GET, paths: [/a/**]}, policy: pass}\n- {name: b, match: {methods: GET, paths: [/a/b]}}"
    ),
    "an exception that stands in unless too": (
        "- {name: a, match: {methods: GET, paths: [/**], script_request: true}, unless: {paths: [/file/**]}}\n"
        "- {name: b, match: {paths: [/file/download/**]}, policy: pass}\n"
        "- {name: c, match: {methods: GET, paths: [/file/**]}}"
    ),
    "fetch is covered by a second rule": (
        "- {name: a, match: {methods: GET, paths: [/a/**], x_requested_with: XMLHttpRequest}, policy: classic}\n"
        "- {name: b, match: {methods: GET, paths: [/**], script_request: true}}"
    ),
    "fetch is covered by the path": (
        "- {name: a, match: {methods: GET, paths: [/a/**], x_requested_with: XMLHttpRequest}, policy: classic}\n"
        "- {name: b, match: {methods: GET, paths: [/a/**]}}"
    ),
    "post by scripts only": "- {name: a, match: {methods: [GET, POST], paths: [/a/**], script_request: true}}",
    "post but no navigation": (
        "- {name: a, match: {methods: [GET, POST], paths: [/a/**]}, unless: {headers: {Sec-Fetch-Mode: navigate}}}"
    ),
    "post of JSON only": (
        "- {name: a, match: {methods: [GET, POST], paths: [/a/**], response: {content_types: application/json}}}"
    ),
    "a path whatever the method": "- {name: a, match: {paths: [/api/**]}}",
    "a condition on responses of scripts": (
        "- {name: a, match: {methods: GET, script_request: true, response: {content_types: [application/json]}}}"
    ),
    "a regex with a group first": "- {name: a, match: {methods: GET, path_regexes: ['(/api|/rest)/.*', '.*[.]json']}}",
}


@pytest.mark.parametrize("rules", SOUND.values(), ids=SOUND.keys())
def test_what_is_sound_is_left_in_peace(rules):
    assert warnings(rules) == []


def test_a_policy_used_only_as_a_base_is_used():
    rest = "policies: {mine: {extends: base}, base: {extends: strict}}"
    assert warnings(POLICY_FIRST, rest) == []


def test_conditionals_may_stay_where_no_success_is_enforced():
    rules = "- {name: a, match: {methods: GET, response: {status: [404, 5xx]}}, policy: mine}"
    assert warnings(rules, "policies: {mine: {conditionals: keep}}") == []


def test_a_warning_says_where_why_and_what_to_do():
    text = "version: 1\nrules:\n  - name: a\n    match: {paths: [/a/**]}\n  - name: b\n    match: {paths: [/a/b]}\n    policy: pass\n"
    (warning,) = lint(loads(text.encode(), "rules.yaml"))
    assert str(warning) == (
        "rules.yaml:5:11: warning: rules[1].name: no request gets here: rules[0] (a) takes all of them before, and the "
        "first rule that matches decides; move this exception before it [unreachable-rule]"
    )


def test_a_thousand_rules_are_compared_without_delay():
    """Half a million pairs; most are told apart by how their paths begin."""
    rules = "".join(f"  - {{name: r{n}, match: {{methods: GET, paths: [/app{n}/**, /x/app{n}]}}}}\n" for n in range(1000))
    rules += "  - {name: last, match: {methods: GET, paths: [/app7/b]}}\n"
    found = lint(loads((HEAD + rules).encode(), "r"))
    assert [(mistake.path, mistake.code) for mistake in found] == [("rules[1000].name", "unreachable-rule")]
