"""The contract of loading: values from a right file, every mistake of a wrong one, never a traceback."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.rules.keys.methods import Methods
from proxy.rules.keys.paths import Paths
from proxy.rules.loading import loader, validation
from proxy.rules.loading.loader import Mistake, RulesError, RulesFile, load, loads
from proxy.rules.loading.yaml_positions import MAX_SIZE_BYTES
from proxy.rules.tools import lint, rule_tests
from tests.rules import golden_files
from tests.rules.making import conditions, field_key, response_keys

SHIPPED = Path(__file__).parents[2] / "config" / "rules.yaml"


def load_text(text: str) -> RulesFile:
    return loads(dedent(text).encode(), "rules.yaml")


def mistakes_of(data: bytes | str) -> list[str]:
    with pytest.raises(RulesError) as caught:
        loads(data.encode() if isinstance(data, str) else data, "rules.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize("golden", golden_files.read_all("golden"), ids=lambda golden: golden.name)
def test_each_broken_file_is_refused_with_exactly_its_mistakes(golden):
    assert "\n".join(mistakes_of(golden.data)) == golden.expected


@pytest.mark.parametrize("golden", golden_files.read_all("golden"), ids=lambda golden: golden.name)
def test_mistakes_do_not_depend_on_how_pyyaml_was_built(golden, monkeypatch):
    """Without libyaml PyYAML parses in Python, with other words for the same errors."""
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert "\n".join(mistakes_of(golden.data)) == golden.expected


def test_there_are_at_least_60_golden_files_and_none_twice():
    names = [golden.data for golden in golden_files.read_all("golden")]
    assert len(names) >= 60
    assert len(set(names)) >= len(names) - 1  # an empty file and one of comments say the same, but differ


def test_every_key_of_a_rule_arrives_in_the_model():
    rules_file = load_text("""
        version: 1
        rules:
          - name: all-keys
            because: to see them
            match:
              methods: [GET, POST]
              paths: [/a/**, /b]
              path_regexes: ["/[ab].*"]
              x_requested_with: [XMLHttpRequest, "com.example.*"]
              script_request: true
              headers: {Accept: "*json*", DNT: 1, Cookie: true, Range: false}
              response: {status: [200, 3xx], content_types: [Text/HTML], attachment: false}
            unless:
              paths: /a/static/**
            policy: classic
            mode: observe
        """)
    (rule,) = rules_file.rules
    assert (rule.name, rule.because, rule.policy.name, rule.mode) == (
        "all-keys",
        "to see them",
        "classic",
        "observe",
    )
    assert rule.match == conditions(
        methods=frozenset({"GET", "HEAD", "POST"}),
        paths=("/a/**", "/b"),
        path_regexes=("/[ab].*",),
        fields=(
            field_key("X-Requested-With", globs=("XMLHttpRequest", "com.example.*"), by_member=True),
            field_key("Accept", globs=("*json*",)),
            field_key("DNT", globs=("1",)),
            field_key("Cookie", present=True),
            field_key("Range", present=False),
        ),
        script_request=True,
        response=response_keys(("200", "3xx"), ("text/html",), attachment=False),
    )
    assert rule.unless == conditions(paths=("/a/static/**",))


def test_a_rule_without_keys_matches_everything_with_the_strict_policy():
    (rule,) = load_text("{version: 1, rules: [{name: a}]}").rules
    assert (rule.match, rule.unless, rule.policy.name, rule.mode) == (conditions(), None, "strict", "enforce")


def test_an_empty_list_says_as_little_as_an_absent_key():
    """`path_regexes: []` may stand in a rule that matches."""
    (rule,) = load_text("""
        version: 1
        rules:
          - name: a
            match: {methods: [], paths: [], path_regexes: [], x_requested_with: [], headers: {Accept: []}}
            unless: {paths: [], response: {status: []}}
        """).rules
    assert rule.match == conditions()
    assert rule.unless is None


def test_methods_without_get_do_not_gain_head():
    (rule,) = load_text("{version: 1, rules: [{name: a, match: {methods: POST}}]}").rules
    assert rule.match.get(Methods).methods == {"POST"}


def test_a_policy_of_ones_own_builds_on_the_policy_it_extends():
    policies = load_text("""
        version: 1
        rules: []
        policies:
          above: {extends: base, remove: [Server], last_modified: keep}
          base: {extends: classic, set: {Pragma: no-cache-at-all, X-New: 0}, etag: remove}
        """).policies
    above = policies["above"]
    assert dict(above.set_fields)["Pragma"] == "no-cache-at-all"
    assert dict(above.set_fields)["X-New"] == "0"
    assert "no-store" in dict(above.set_fields)["Cache-Control"]
    assert "server" in above.remove
    assert (above.etag, above.last_modified, above.conditionals) == ("remove", "keep", "strip")


def test_a_chain_of_policies_may_be_as_long_as_the_file():
    links = "".join(f"  p{n}: {{extends: p{n + 1}}}\n" for n in range(3000))
    policies = loads(f"version: 1\nrules: []\npolicies:\n{links}  p3000: {{}}\n".encode(), "r").policies
    assert policies["p0"].set_fields == policies["strict"].set_fields


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "0x1F", "1_000", "1:30", "2024-01-01", "1.50", "007", ".5"]
)
def test_plain_words_keep_their_letters(word):
    """YAML 1.1 reads these as something else; a field value must be what the author wrote."""
    rules_file = load_text(f"""
        version: 1
        rules: []
        policies: {{p: {{set: {{X-Word: {word}}}}}}}
        """)
    assert dict(rules_file.policies["p"].set_fields)["X-Word"] == word


def _paths(rule):
    paths = rule.match.get(Paths)
    return None if paths is None else paths.texts


def test_anchors_aliases_and_merge_keys_mean_what_yaml_says():
    rules_file = load_text("""
        version: 1
        x-defaults: &defaults
          policy: classic
          match: &reads {methods: [GET]}
        x-more: &more {mode: observe, policy: pass}
        rules:
          - <<: *defaults
            name: a
          - <<: [*defaults, *more]
            name: b
            match:
              <<: *reads
              paths: /b
          - name: &third c
            match: *reads
          - {<<: *more, policy: strict, name: d, because: *third}
        """)
    shown = [(rule.name, rule.policy.name, rule.mode, _paths(rule)) for rule in rules_file.rules]
    assert shown == [
        ("a", "classic", "enforce", None),
        ("b", "classic", "observe", ("/b",)),
        ("c", "strict", "enforce", None),
        ("d", "strict", "observe", None),
    ]
    assert rules_file.rules[3].because == "c"
    assert all(rule.match.get(Methods).methods == {"GET", "HEAD"} for rule in rules_file.rules[:3])


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_positions_are_those_an_editor_shows_whatever_the_line_ends(line_end, mark):
    lines = [
        "version: 1",
        "rules:",
        "  - name: ä",
        "    match:",
        "      paths: [/ä, 'é']",
        "    polcy: pass",
        "",
    ]
    found = mistakes_of(mark + line_end.join(lines))
    assert [line.split(": ")[0] for line in found] == ["rules.yaml:3:11", "rules.yaml:5:19", "rules.yaml:6:5"]


def test_a_file_is_named_by_what_its_bytes_are(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"version: 1\nrules: []\n")
    first = load(path)
    assert first.source == str(path)
    assert len(first.digest) == 12
    assert loads(b"version: 1\nrules: []\n", "elsewhere").digest == first.digest
    assert loads(b"version: 1\nrules: [] \n", "elsewhere").digest != first.digest


def test_a_missing_file_is_a_mistake(tmp_path):
    with pytest.raises(RulesError) as caught:
        load(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: no such file"


def test_a_directory_is_a_mistake(tmp_path):
    with pytest.raises(RulesError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: found a directory, allowed: a file"


def test_a_path_through_a_file_is_a_mistake(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RulesError) as caught:
        load(tmp_path / "file" / "rules.yaml")
    assert str(caught.value) == f"{tmp_path}/file/rules.yaml: cannot be read: Not a directory"


def test_an_unreadable_file_is_a_mistake(tmp_path, monkeypatch):
    path = tmp_path / "rules.yaml"
    path.touch(mode=0o000)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(*_args: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RulesError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: found a file that this process may not read; correct its mode or owner"
    )


def test_a_file_larger_than_a_configmap_is_refused_unread():
    assert mistakes_of(b"#" * (MAX_SIZE_BYTES + 1)) == [
        "rules.yaml: found more than 1048576 bytes, allowed: 1048576"
    ]


def test_a_file_that_never_ends_is_not_read_to_its_end():
    with pytest.raises(RulesError, match="more than 1048576 bytes"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nrules: " + "[" * 100_000,
        "version: 1\nrules: " + "{a: " * 100_000,
        "- " * 100_000,
        "version: 1\nx-a: &a {b: [1, 2, 3]}\nrules: [" + "*a, " * 100_000 + "]",
        "version: 1\nx-a: &a [*a]\nrules: []",
        "version: 1\nrules: &r [*r]",
    ],
    ids=["lists", "mappings", "dashes", "aliases", "own alias", "own alias in rules"],
)
def test_files_made_to_exhaust_a_loader_are_refused(text):
    assert mistakes_of(text)


def test_a_thousand_rules_load_and_keep_their_order():
    rules = "".join(
        f"  - name: r{n}\n    match:\n      methods: [GET]\n      paths: [/app{n}/**, /x/app{n}]\n"
        f"      x_requested_with: XMLHttpRequest\n    unless: {{paths: [/app{n}/static/**]}}\n    "
        "policy: classic\n"
        for n in range(1000)
    )
    rules_file = loads(f"version: 1\nrules:\n{rules}".encode(), "rules.yaml")
    assert [rule.name for rule in rules_file.rules] == [f"r{n}" for n in range(1000)]


KEYS = sorted({key for model in validation._MODELS.values() for key in model.model_fields})
VALUES = [
    "GET",
    "get",
    "/**",
    "/a",
    "*",
    "**",
    "*a",
    "&a",
    "<<: *a",
    "null",
    "true",
    "1",
    "200",
    "3xx",
    "pass",
    "x-a",
]
SIGNS = [
    "-",
    ":",
    ",",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "|",
    ">",
    "!",
    "!!str",
    "~",
    "#",
    "%",
    "@",
    "`",
    "\t",
    "\\",
    "---",
    "?",
]
STRANGE = ["(?!a)", "[a-", "\u2028", "\ufeff", "\x00", "\xa0", "é", "\U0001f600", "\\ud800"]
WORDS = st.one_of(*map(st.sampled_from, (KEYS, VALUES, SIGNS, STRANGE)))
SPACES = st.sampled_from(["", " ", "  ", "\n", "\n  ", "\n    ", "\r\n", ": ", "\n  - "])
SOUP = st.lists(st.tuples(WORDS, SPACES), max_size=40).map(
    lambda parts: "".join(map("".join, parts)).encode()
)


@st.composite
def damaged_files(draw):
    """The shipped file or an example, with pieces cut out, doubled, or replaced."""
    path = draw(st.sampled_from([SHIPPED, *sorted((SHIPPED.parent / "examples").glob("*.yaml"))]))
    data = path.read_bytes()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 60)))
        piece = draw(st.one_of(st.just(b""), st.binary(max_size=4), SOUP, st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["/a", "GET", "pass", "3xx"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)


@st.composite
def strange_trees(draw):
    """Well-formed YAML with any value at any key."""
    tree = draw(TREES)
    if draw(st.booleans()):
        tree = {
            "version": 1,
            "rules": [{"name": "a", "match": tree}, tree],
            "policies": tree,
            "tests": [tree],
        }
    return yaml.safe_dump(tree, allow_unicode=draw(st.booleans())).encode()


def found_in(data: bytes) -> list[Mistake]:
    """Do all that `check` does with a file."""
    try:
        rules_file = loads(data, "rules.yaml")
    except RulesError as error:
        return list(error.mistakes)
    return [*rule_tests.run(rules_file), *lint.lint(rules_file)]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60), st.text(max_size=60).map(str.encode), SOUP, damaged_files(), strange_trees()
    )
)
@example(b"? ")
@example(b"%YAML 9.9\n---\na")
@example(b"%TAG ! tag:x,1:\n---\n!a b")
@example(b"&a *a")
@example(b"rules: [*a : b]")
def test_no_bytes_give_anything_but_rules_or_mistakes(data):
    end = data.count(b"\n") + data.count(b"\r") + 2  # libyaml begins a new line at the end of the file
    for mistake in found_in(data):
        assert 0 <= mistake.line <= end
        assert str(mistake).startswith("rules.yaml")
        assert "\n" not in str(mistake)


def test_the_module_does_not_pull_in_what_only_commands_need():
    """`serve` loads rules at its start; explain and lint would only cost it memory."""
    import subprocess
    import sys

    script = (
        "import sys, proxy.rules.loading.loader; print(*[m for m in sys.modules if m.startswith('proxy.')])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "proxy.rules.loading.loader" in loaded
    assert not {
        "proxy.rules.tools.explain",
        "proxy.rules.tools.lint",
        "proxy.rules.tools.commands",
    } & set(loaded)


def test_public_names_are_reexported_for_users_of_the_module():
    assert set(loader.__all__) >= {"load", "loads", "RulesFile", "RulesError", "Mistake"}


def test_replaced_rules_need_no_garbage_collector():
    """`serve` exempts its first rules from garbage collection, so a reference cycle in them would stay for ever."""
    import gc

    number = 600
    rule = "  - {name: r%d, match: {paths: [/a/%d/**], path_regexes: ['/b[0-9]+/%d'], query: {a: 'x*'}}}\n"
    text = "version: 1\nrules:\n" + "".join(rule % (one, one, one) for one in range(number))
    load_text("version: 1\nrules: [{name: first, match: {path_regexes: [/a+]}}]\n")  # what stays in any case
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        rules_file = load_text(text)
        made = len(gc.get_objects()) - before
        del rules_file
        left = len(gc.get_objects()) - before
    finally:
        gc.enable()
    assert made > 10 * number
    assert left < number  # not one object of each rule
