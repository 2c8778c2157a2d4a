"""However many rules there are, in whatever order they are compiled and remembered, a plain loop over them decides the same.

The loop is written from the words of DESIGN section 4: the first rule whose conditions hold and whose exception does
not; each path expression in any spelling where protection is at stake, in all of them where it is weakened.
"""

from __future__ import annotations

import fnmatch
import functools
import random
import re

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.message.methods import OVERRIDES
from proxy.rules.engine.conditions import field_holds, is_script_request
from proxy.rules.engine.globs import path_glob
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.spellings import spellings
from proxy.rules.loading.loader import loads
from proxy.rules.model import Conditions, FieldCondition, ResponseConditions, Rule
from proxy.rules.policies import CLASSIC, PASS, REVALIDATE, STRICT, enforces
from tests.rules import strategies

XHR = FieldCondition("X-Requested-With", globs=("XMLHttpRequest",), by_member=True)
GET = frozenset(("GET", "HEAD"))
JSON = ResponseConditions(content_types=("application/json",))


def naive(rules, request, response) -> tuple[str, str]:
    """The names of the rule that decides and of the one that is observed."""
    path = request.target.partition(b"?")[0]
    observed = "-"
    for each in rules:
        is_broad = enforces(each.policy)
        protects = each.policy != PASS
        if not naive_holds(each.match, is_broad, path, request) or not naive_response(
            each.match, protects, response
        ):
            continue
        excepted = each.unless
        if (
            excepted is not None
            and naive_holds(excepted, not is_broad, path, request)
            and naive_response(excepted, not protects, response)
        ):
            continue
        if each.mode == "enforce":
            return each.name, observed
        observed = each.name if observed == "-" else observed
    return "-", observed


def naive_holds(asked, is_broad, path, request) -> bool:
    quantifier = any if is_broad else all
    globs = None if asked.paths is None else [path_glob(glob) for glob in asked.paths]
    for expressions in (globs, asked.path_regexes):
        if expressions is not None and not any(
            quantifier(naive_path(expression, spelling, is_broad) for spelling in spellings(path))
            for expression in expressions
        ):
            return False
    if asked.methods is not None:
        methods = {request.method}
        for name in OVERRIDES:
            methods |= {m.strip().upper() for m in (naive_value(request, name) or "").split(",") if m.strip()}
        if not quantifier(method in asked.methods for method in methods):
            return False
    if asked.script_request is not None and asked.script_request is not is_script_request(
        naive_value(request, b"x-requested-with"), naive_value(request, b"sec-fetch-dest")
    ):
        return False
    return all(
        field_holds(condition, naive_value(request, condition.name.lower().encode()))
        for condition in asked.fields
    )


def naive_response(asked, is_broad, response) -> bool:
    """What a 304 leaves open holds in the broad reading only."""
    if asked.response is None:
        return True
    statuses, globs, attachment = (
        asked.response.statuses,
        asked.response.content_types,
        asked.response.attachment,
    )
    renews = response.status == 304
    answers = []
    if statuses:
        known = {str(response.status), f"{response.status // 100}xx"} & set(statuses)
        answers.append(bool(known) or (renews and is_broad and {"200", "2xx"} & set(statuses) != set()))
    types = [naive_type(value) for name, value in response.fields if name.lower() == b"content-type"]
    if globs:
        found = [any(fnmatch.fnmatchcase(each, glob) for glob in globs) for each in types]
        answers.append((any if is_broad else all)(found) if found else renews and is_broad)
    if attachment is not None:
        is_attachment = b"content-disposition" in {name.lower() for name, _ in response.fields}
        answers.append(is_broad if renews and not is_attachment else is_attachment is attachment)
    return all(answers)


def naive_type(value) -> str:
    return value.decode().split(";")[0]


@functools.lru_cache(None)
def naive_expression(expression):
    return re.compile(expression, re.DOTALL)


def naive_path(expression, path, is_broad) -> bool:
    paths = {path, path.rstrip("/"), path + "/"} if is_broad else {path}
    return any(naive_expression(expression).fullmatch(each) for each in paths)


def naive_value(request, name):
    values = [value for key, value in request.fields if key.lower() == name]
    return b", ".join(values).decode("latin-1") if values else None


def asked(ruleset, request, response) -> tuple[str, str]:
    values = tuple(
        None if (value := naive_value(request, name)) is None else value.encode("latin-1")
        for name in ruleset.field_names
    )
    verdict = ruleset.decide(request.method, request.target.partition(b"?")[0], values)
    resolution = verdict.resolve(response.status, response.fields)
    return tuple(each.name if each else "-" for each in (resolution.rule, resolution.observed))


@given(
    strategies.rules_files(), st.lists(strategies.requests(), min_size=1, max_size=4), strategies.responses()
)
def test_decision_is_that_of_a_plain_loop_over_the_rules(tree, requests, response):
    rules_file = loads(yaml.safe_dump(tree).encode(), "rules.yaml")
    for request in requests:
        assert asked(rules_file.ruleset, request, response) == naive(rules_file.rules, request, response)


@functools.lru_cache(None)
def thousand_rules() -> Ruleset:
    """Of every kind, none of them for everything, so that it is the later ones that are asked."""
    draw = random.Random(1)
    rules = []
    for number in range(1000):
        path = draw.choice(["/a/{n}/*", "/{n}/**", "/**/{n}.js", "/a/b/{n}", "/file/?{n}"]).format(
            n=number % 400
        )
        options = draw.choice(
            [{}, {"methods": GET}, {"fields": (XHR,)}, {"script_request": True}, {"response": JSON}]
        )
        unless = draw.choice([None, None, {"paths": ("/**/static/*",)}, {"fields": (XHR,)}])
        policy = draw.choice([STRICT, CLASSIC, REVALIDATE, PASS])
        mode = draw.choice(["enforce", "enforce", "observe"])
        excepted = None if unless is None else Conditions(**unless)
        rules.append(Rule(f"r{number}", policy, Conditions(paths=(path,), **options), excepted, mode))
    return Ruleset(rules)


@settings(max_examples=60)
@given(
    st.sampled_from(
        ["/a/{n}/x", "/{n}/static/x", "//{n}", "/x/../{n}/y", "/z/{n}.js", "/a/b/{n}/", "/file/x{n}"]
    ),
    st.integers(0, 399),
    strategies.requests(),
    strategies.responses(),
)
def test_a_thousand_rules_decide_like_a_plain_loop(path, number, request, response):
    ruleset = thousand_rules()
    request = strategies.TrialRequest(request.method, path.format(n=number).encode(), request.fields)
    assert asked(ruleset, request, response) == naive(ruleset.rules, request, response)
