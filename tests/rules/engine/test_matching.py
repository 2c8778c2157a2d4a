"""Which rule decides: the first that matches, in the reading that keeps the guarantee.

An enforcing rule matches if any reading of the request does (spelling of the path, overridden method) and
is excepted only if all do; a rule that weakens protection the other way round. That however many rules
decide like a plain loop over them is a law in `tests/laws/test_plain_loop.py`.
"""

from __future__ import annotations

import dataclasses
import functools

import pytest

from proxy.message.fields import FieldSection
from proxy.message.forwarding import PATH_FIELDS
from proxy.message.methods import OVERRIDES
from proxy.rules.engine import expression_set, matching
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.path_sets import PathSet
from proxy.rules.loading.loader import loads
from proxy.rules.model import Rule
from proxy.rules.policies import CLASSIC, PASS, REVALIDATE, STRICT, enforces
from tests.rules.making import conditions, field_key, response_keys

XHR = field_key("X-Requested-With", globs=("XMLHttpRequest",), by_member=True)
GET = frozenset(("GET", "HEAD"))
JSON = response_keys(content_types=("application/json",))
KEPT = dataclasses.replace(STRICT, name="kept", conditionals="keep")
OWN_PASS = dataclasses.replace(PASS, name="own", set_fields=(("X-Own", "1"),))


def rule(name, policy=STRICT, unless=None, mode="enforce", **match) -> Rule:
    return Rule(name, policy, conditions(**match), None if unless is None else conditions(**unless), mode)


def decide(rules, path=b"/a", method="GET", **fields):
    """Decide for a request; `x_requested_with="x"` is a field."""
    ruleset = rules if isinstance(rules, Ruleset) else Ruleset(rules)
    given_fields = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return ruleset.decide(method, path, tuple(given_fields.get(name) for name in ruleset.field_names))


def decided(rules, path=b"/a", method="GET", status=200, response=(), **fields) -> str:
    """The name of the rule that decides, `-` for none."""
    resolution = decide(rules, path, method, **fields).resolve(status, response)
    return resolution.rule.name if resolution.rule else "-"


class Test_Order:
    def test_first_rule_that_matches_decides(self):
        rules = [rule("a", paths=("/a/**",)), rule("b", PASS, paths=("/**",)), rule("c", paths=("/c",))]
        assert [decided(rules, path) for path in (b"/a/x", b"/x", b"/c")] == ["a", "b", "b"]

    def test_no_rule_means_untouched(self):
        verdict = decide([rule("a", paths=("/a",))], b"/b")
        assert (verdict.vary, verdict.strips_conditionals, verdict.rule) == ((), False, None)
        assert verdict.resolve(200, ()).treatment is matching.UNTOUCHED
        assert decided([]) == "-"

    def test_rule_without_conditions_matches_everything(self):
        assert decided([rule("all")], b"*", "OPTIONS") == "all"

    def test_every_condition_must_hold_and_of_a_list_one_member(self):
        rules = [rule("a", paths=("/a", "/b/*"), methods=frozenset(("POST", "PUT")), fields=(XHR,))]
        ask = functools.partial(decided, rules, x_requested_with="XMLHttpRequest")
        assert ask(b"/b/x", "PUT") == ask(b"/a", "POST") == "a"
        assert ask(b"/c", "PUT") == ask(b"/a", "GET") == "-"
        assert decided(rules, b"/a", "PUT") == "-"

    def test_globs_and_expressions_of_one_rule_must_both_hold(self):
        rules = [rule("a", paths=("/a/**",), path_regexes=("/.*[0-9]",))]
        assert [decided(rules, path) for path in (b"/a/1", b"/a/x", b"/b/1")] == ["a", "-", "-"]

    @pytest.mark.parametrize(
        "regex", ["/a", "^/a$", r"\A/a\z", "^/x$|^/a$", "(?m)^/a$", r"/a\b", "(?:^/a$)?", "/[a-c]$"]
    )
    @pytest.mark.parametrize("policy", [STRICT, PASS], ids=lambda policy: policy.name)
    def test_expression_may_say_itself_where_it_ends(self, policy, regex):
        rules = [rule("a", policy, path_regexes=(regex,))]
        with_slash = "a" if enforces(policy) else "-"
        assert [decided(rules, path) for path in (b"/a", b"/a/", b"/a/x")] == ["a", with_slash, "-"]


@pytest.mark.parametrize("policy", [STRICT, CLASSIC, REVALIDATE, PASS], ids=lambda policy: policy.name)
class Test_Readings:
    """What enforces takes any reading, what weakens needs all."""

    @pytest.mark.parametrize(
        ("path", "is_plain"),
        [
            (b"/a", True),
            (b"//a", False),
            (b"/x/../a", False),
            (b"/x/%2e%2e/a", False),
            (b"/a;v=1", False),
            (b"/%2e/a", False),
        ],
    )
    def test_path_that_means_different_things_to_servers(self, policy, path, is_plain):
        expected = "r" if is_plain or enforces(policy) else "-"
        assert decided([rule("r", policy, paths=("/a",))], path) == expected

    def test_slash_at_the_end_is_another_path_only_to_what_weakens(self, policy):
        """Flask redirects one to the other, and that answer belongs to the view as well."""
        expected = "r" if enforces(policy) else "-"
        assert decided([rule("r", policy, paths=("/a",))], b"/a/") == expected
        assert decided([rule("r", policy, paths=("/a/",))], b"/a") == expected

    @pytest.mark.parametrize("path", [b"//static/x", b"/a/../static/x", b"/static/../x"])
    def test_exception_is_read_the_other_way_round(self, policy, path):
        """A spelling that only some servers read as excepted is no exception from protection."""
        rules = [rule("r", policy, paths=("/**",), unless={"paths": ("/static/**",)})]
        assert decided(rules, b"/static/x") == "-"
        assert decided(rules, path) == ("r" if enforces(policy) else "-")

    @pytest.mark.parametrize("name", [name.decode() for name in OVERRIDES])
    @pytest.mark.parametrize(
        ("sent", "override", "methods"),
        [
            ("POST", "GET", GET),
            ("POST", "get", GET),
            ("GET", "PUT", frozenset(("PUT",))),
            ("GET", "x, PUT", frozenset(("PUT",))),
        ],
    )
    def test_overridden_method_is_a_reading_too(self, policy, name, sent, override, methods):
        expected = "r" if enforces(policy) else "-"
        rules = [rule("r", policy, methods=methods)]
        assert decided(rules, method=sent, **{name.replace("-", "_"): override}) == expected

    def test_override_that_says_the_same_changes_nothing(self, policy):
        rules = [rule("r", policy, methods=GET)]
        assert decided(rules, x_http_method="GET") == decided(rules, x_http_method="") == "r"


@pytest.mark.parametrize("sent", [b"DELETE\x85", b"delete\xa0", (b"GET", b"DELETE"), b"get, DELETE\x85"])
def test_override_that_some_servers_strip_or_find_second_counts(sent):
    """wsgiref takes off what Python counts as white space; apps differ on which of two lines they take."""
    ruleset = Ruleset([rule("r", methods=("DELETE",)), rule("p", PASS, methods=("GET",))])
    values = tuple(sent if name == OVERRIDES[0] else None for name in ruleset.field_names)
    assert ruleset.decide("GET", b"/a", values).rule.name == "r"


def test_overrides_are_read_only_if_a_rule_names_what_they_override():
    assert Ruleset([rule("a")]).field_names == ()
    assert Ruleset([rule("a", paths=("/a",))]).field_names == PATH_FIELDS
    assert Ruleset([rule("a", methods=GET)]).field_names == OVERRIDES
    assert Ruleset([rule("a", unless={"methods": GET})]).field_names == OVERRIDES


def test_get_in_a_rules_file_implies_head():
    """RFC 9110 section 9.3.2: HEAD is answered like GET, and updates what caches know of it."""
    text = (
        b"version: 1\nrules:\n- {name: a, match: {methods: [GET]}}\n- {name: b, match: {methods: [POST]}}\n"
    )
    ruleset = loads(text, "rules.yaml").ruleset
    assert [decided(ruleset, method=method) for method in ("GET", "HEAD", "POST", "PUT")] == [
        "a",
        "a",
        "b",
        "-",
    ]


class Test_Fields:
    @pytest.mark.parametrize("wanted", [True, False])
    def test_rule_may_ask_for_either_answer(self, wanted):
        rules = [rule("r", script_request=wanted)]
        assert (decided(rules, sec_fetch_dest="empty") == "r") is wanted
        assert (decided(rules) == "r") is not wanted

    def test_names_are_read_once_and_in_any_case(self):
        fields = (field_key("Accept", present=True), field_key("accept", globs=("a",)))
        ruleset = Ruleset([rule("r", fields=fields), rule("s", script_request=True)])
        assert ruleset.field_names == (b"accept", b"x-requested-with", b"sec-fetch-dest")
        assert decided(ruleset, accept="a") == "r"


class Test_Response:
    """Conditions that can be told only from the response's head."""

    @pytest.mark.parametrize(
        ("policy", "expected"), [(STRICT, "r"), (REVALIDATE, "r"), (PASS, "-"), (KEPT, "r"), (OWN_PASS, "-")]
    )
    def test_304_is_protected_if_what_it_stands_for_may_be(self, policy, expected):
        """It renews a stored head: `max-age=3600` of an app's 304 would make the copy fresh again."""
        assert decided([rule("r", policy, response=JSON)], status=304) == expected
        excepted = [rule("r", policy, unless={"response": JSON})]
        assert decided(excepted, status=304) == expected

    def test_rules_are_asked_in_order_of_the_response_too(self):
        rules = [
            rule("json", response=JSON),
            rule("errors", CLASSIC, response=response_keys(statuses=("5xx",))),
            rule("rest", REVALIDATE),
            rule("never"),
        ]
        verdict = decide(rules)
        assert [outcome.rule.name for outcome in verdict.outcomes] == ["json", "errors", "rest"]
        json = [(b"Content-Type", b"application/json")]
        cases = [(200, json), (500, json), (500, ()), (200, ())]
        assert [verdict.resolve(*case).rule.name for case in cases] == ["json", "json", "errors", "rest"]
        assert verdict.settled is None

    def test_no_response_rule_that_holds_leaves_the_response_untouched(self):
        verdict = decide([rule("json", response=JSON)])
        assert verdict.resolve(200, ()).rule is None
        assert verdict.resolve(200, ()).policy is PASS

    def test_exception_may_depend_on_the_response(self):
        attachment = {"paths": ("/file/**",), "response": response_keys(attachment=True)}
        rules = [rule("r", unless=attachment), rule("rest", REVALIDATE)]
        download = [(b"Content-Disposition", b"attachment")]
        assert decided(rules, b"/file/1", response=download) == "rest"
        assert decided(rules, b"/file/1") == decided(rules, b"/a", response=download) == "r"

    def test_conditions_are_stripped_if_some_response_would_be_enforced(self):
        """The app must not be able to answer 304 to what may turn out to be protected."""
        assert decide([rule("json", response=JSON), rule("rest", REVALIDATE)]).strips_conditionals
        assert not decide([rule("rest", REVALIDATE), rule("never")]).strips_conditionals

    def test_verdict_that_no_response_can_change_is_settled(self):
        verdict = decide([rule("r")])
        assert verdict.resolve(500, ()) is verdict.settled is not None


class Test_Observe:
    """A rule that is only watched decides nothing and hides nothing."""

    def test_observed_rule_does_not_shadow_those_after_it(self):
        rules = [
            rule("watched", CLASSIC, mode="observe"),
            rule("second", mode="observe"),
            rule("r", REVALIDATE),
        ]
        resolution = decide(rules).resolve(200, ())
        assert (resolution.rule.name, resolution.observed.name) == ("r", "watched")
        assert decide(rules).rule.name == "r"

    def test_alone_it_leaves_everything_as_it_is(self):
        verdict = decide([rule("watched", mode="observe", fields=(XHR,))], x_requested_with="XMLHttpRequest")
        assert (verdict.vary, verdict.strips_conditionals, verdict.rule) == ((), False, None)
        resolution = verdict.resolve(200, ())
        assert (resolution.rule, resolution.observed.name) == (None, "watched")
        assert resolution.treatment is matching.UNTOUCHED

    def test_rule_after_the_one_that_decides_is_not_observed(self):
        assert decide([rule("r"), rule("watched", mode="observe")]).resolve(200, ()).observed is None

    def test_it_observes_only_responses_that_it_would_have_treated(self):
        rules = [rule("watched", mode="observe", response=JSON), rule("r")]
        resolve = decide(rules).resolve
        assert resolve(200, ()).observed is None
        assert resolve(200, [(b"Content-Type", b"application/json")]).observed.name == "watched"


class Test_Vary:
    """Names of the request fields that could decide for this method and path, matched or not."""

    RULES = (
        rule("a", paths=("/a/**",), methods=GET, fields=(XHR,)),
        rule("b", paths=("/a/b",), unless={"fields": (field_key("Accept", globs=("*json*",)),)}),
        rule("c", paths=("/**",)),
        rule("d", fields=(field_key("X-Never", present=True),)),
    )

    @pytest.mark.parametrize(
        ("path", "method", "vary"),
        [
            (b"/a/x", "GET", ("X-Requested-With",)),
            (b"/a/x", "POST", ()),
            (b"/a/b", "GET", ("X-Requested-With", "Accept")),
            (b"/a/b", "POST", ("Accept",)),
            (b"/x", "GET", ()),
        ],
    )
    @pytest.mark.parametrize("value", ["XMLHttpRequest", "other"])
    def test_names_come_from_every_rule_that_could_apply(self, path, method, vary, value):
        assert decide(self.RULES, path, method, x_requested_with=value, accept="json").vary == vary

    def test_rule_that_is_excepted_by_path_alone_reads_nothing(self):
        rules = [rule("a", fields=(XHR,), unless={"paths": ("/static/**",)})]
        assert decide(rules, b"/static/x").vary == ()
        assert decide(rules, b"/x").vary == ("X-Requested-With",)

    def test_observed_rule_adds_no_name(self):
        rules = [rule("a", mode="observe", fields=(XHR,)), rule("b", script_request=True)]
        assert decide(rules).vary == ("X-Requested-With", "Sec-Fetch-Dest")
        assert decide(rules[:1]).vary == ()

    def test_observed_rule_for_everything_hides_no_name_of_a_later_one(self):
        rules = [
            rule("a", fields=(XHR,)),
            rule("b", mode="observe"),
            rule("c", fields=(field_key("Accept", present=True),)),
        ]
        for x_requested_with in ("XMLHttpRequest", "other"):
            assert decide(rules, x_requested_with=x_requested_with).vary == ("X-Requested-With", "Accept")

    def test_names_are_spelt_as_the_first_author_did_without_duplicates(self):
        fields = [(field_key(name, present=True),) for name in ("x-a", "X-A", "X-B")]
        assert decide([rule(str(n), fields=f) for n, f in enumerate(fields)]).vary == ("x-a", "X-B")

    def test_response_that_no_rule_matches_still_varies(self):
        made = decide([rule("a", fields=(XHR,))]).resolve(200, ()).treatment
        lines, noted, _ = made.walk(FieldSection([]))
        assert made.apply(lines, noted, "GET", 200, b"now") == 1
        assert lines == [b"Vary: X-Requested-With"]


class Test_Path_too_odd_to_be_spelt:
    """It may be any path: what protects holds, what weakens does not."""

    ODD = b"/x" + b"/%zz" * 1000

    def test_rule_that_protects_matches_and_one_that_weakens_does_not(self):
        rules = [
            rule("open", PASS, paths=("/**",)),
            rule("kept", REVALIDATE, path_regexes=("/x.*",)),
            rule("api", paths=("/api/**",)),
        ]
        assert decided(rules, self.ODD) == "api"
        assert decided(rules[:2], self.ODD) == "-"

    def test_exception_does_not_hold(self):
        assert decided([rule("all", unless={"paths": ("/**",)})], self.ODD) == "all"

    def test_explain_finds_no_spelling(self):
        ruleset = Ruleset([rule("api", paths=("/api/**",))])
        assert ruleset.examine("GET", self.ODD, (None,) * len(ruleset.field_names)).spellings == []


class Test_Memory:
    """What is remembered is a matter of speed alone, and bounded whatever a peer sends."""

    @pytest.mark.interpreted
    def test_tables_stay_within_their_bounds_and_answers_the_same(self, monkeypatch):
        monkeypatch.setattr(matching, "_MAX_PLANS", 8)
        monkeypatch.setattr(matching, "_MAX_VERDICTS", 4)
        rules = [rule(f"r{n}", paths=(f"/{n}/**",), fields=(XHR,)) for n in range(20)]
        ruleset = Ruleset(rules)
        for turn in range(3):
            for n in range(20):
                path = b"/./%d/%d" % (n, turn)
                assert decided(ruleset, path, x_requested_with="XMLHttpRequest") == f"r{n}"
                for value in range(6):
                    assert decided(ruleset, path, x_requested_with=str(value)) == "-"
                plans = {
                    id(plan): plan for plan in (*ruleset._plans.values(), *ruleset._plans_by_hits.values())
                }
                assert max(len(ruleset._plans), len(ruleset._plans_by_hits)) <= 8
                assert sum(len(plan.verdicts) for plan in plans.values()) <= 4

    @pytest.mark.interpreted
    def test_odd_paths_that_the_same_patterns_match_stay_within_the_bound_too(self, monkeypatch):
        monkeypatch.setattr(matching, "_MAX_PLANS", 8)
        ruleset = Ruleset([rule("all", paths=("/**",))])
        for number in range(30):
            assert decided(ruleset, b"/./%d" % number) == "all"
            assert len(ruleset._plans) <= 8

    def test_what_is_long_is_not_kept(self):
        ruleset = Ruleset([rule("r", fields=(XHR,))])
        for size in (10, 2000):
            decide(ruleset, b"//" + b"x" * size)
            decide(ruleset, b"//", x_requested_with="x" * size)
        assert sorted(map(len, ruleset._plans)) == [2, 12]
        assert [values[0] for _, values in ruleset._plans[b"//"].verdicts] == [None, b"x" * 10]

    def test_path_in_plain_spelling_is_not_kept(self):
        """It is found out again faster than it could be kept."""
        ruleset = Ruleset([rule("r", paths=("/a/**",))])
        for number in range(10):
            decide(ruleset, b"/a/%d" % number)
        assert not ruleset._plans
        assert len(ruleset._plans_by_hits) == 1

    def test_same_question_gets_the_same_verdict_without_asking_again(self):
        ruleset = Ruleset([rule("r", fields=(XHR,))])
        assert decide(ruleset, b"/x") is decide(ruleset, b"/x") is decide(ruleset, b"/y")
        assert decide(ruleset, b"/x", x_requested_with="a") is not decide(ruleset, b"/x")


@pytest.mark.interpreted
def test_path_of_which_one_spelling_takes_too_long_may_be_any(monkeypatch):
    """What protects, applies, and what weakens does not, whatever the other spellings say."""
    original = PathSet.match

    def match(paths, path):
        return None if path == "/a/b" else original(paths, path)

    monkeypatch.setattr(PathSet, "match", match)
    rules = [rule("free", PASS, paths=("/a%2Fb", "/a/*")), rule("api", paths=("/api/**",))]
    assert decided(rules, b"/a%2Fb") == "api"


class Test_RE2_out_of_memory:
    """A set that fails answers "no match"; an expression of its own tells that from the truth."""

    RULES = (
        *(rule(f"r{n}", paths=(f"/app{n}/**",), unless={"paths": (f"/app{n}/static/*",)}) for n in range(40)),
        rule("pass", PASS, path_regexes=("/free/[a-z]+",)),
    )
    CASES = (
        (b"/app7/x", "r7"),
        (b"//app39/%78", "r39"),
        (b"/app7/static/x", "-"),
        (b"/free/x", "pass"),
        (b"/free/x;v", "-"),
        (b"/other", "-"),
    )

    @pytest.mark.interpreted
    def test_set_too_large_for_its_ceiling_is_asked_one_by_one(self, monkeypatch):
        monkeypatch.setattr(expression_set, "_MEMORY_BYTES", 1)
        monkeypatch.setattr(expression_set, "_MAX_MEMORY_BYTES", 1)
        ruleset = Ruleset(self.RULES)
        assert [decided(ruleset, path) for path, _ in self.CASES] == [name for _, name in self.CASES]
        assert not ruleset._paths._all._compiled.Match(b"/app7/x"), "the ceiling was not too low"

    @pytest.mark.interpreted
    @pytest.mark.parametrize("answer", [None, [], [3]])
    def test_set_that_fails_while_matching_is_asked_one_by_one(self, monkeypatch, answer):
        class Failing:
            def Match(self, _path):  # noqa: N802 - RE2's name
                return answer

        monkeypatch.setattr(expression_set.ExpressionSet, "_compile_within", lambda *_: Failing())
        ruleset = Ruleset(self.RULES)
        assert [decided(ruleset, path) for path, _ in self.CASES] == [name for _, name in self.CASES]
