"""However many rules there are, in whatever order they are compiled and remembered, a plain loop over them decides the same.

The loop is written from the words of `config/README.md`: the first rule whose conditions hold and whose exception does
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
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.spellings import spellings
from proxy.rules.keys.fields import FieldKey, ScriptRequest
from proxy.rules.keys.globs import path_glob
from proxy.rules.keys.methods import Methods
from proxy.rules.keys.paths import PathRegexes, Paths
from proxy.rules.keys.query import Parameter
from proxy.rules.keys.response import Attachment, ContentTypes, Statuses
from proxy.rules.loading.loader import loads
from proxy.rules.model import Rule
from proxy.rules.policies import CLASSIC, PASS, REVALIDATE, STRICT, enforces
from tests.rules import strategies
from tests.rules.making import conditions, field_key, response_keys

XHR = field_key("X-Requested-With", globs=("XMLHttpRequest",), by_member=True)
GET = frozenset(("GET", "HEAD"))
JSON = response_keys(content_types=("application/json",))


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
    paths, regexes, methods, script = map(asked.get, (Paths, PathRegexes, Methods, ScriptRequest))
    globs = None if paths is None else [path_glob(glob) for glob in paths.texts]
    for expressions in (globs, None if regexes is None else regexes.texts):
        if expressions is not None and not any(
            quantifier(naive_path(expression, spelling, is_broad) for spelling in spellings(path))
            for expression in expressions
        ):
            return False
    if methods is not None:
        sent = {request.method}
        for name in OVERRIDES:
            sent |= {
                m.strip().upper() for line in naive_lines(request, name) for m in line.split(",") if m.strip()
            }
        if not quantifier(method in methods.methods for method in sent):
            return False
    if script is not None and not quantifier(
        script.is_wanted is (naive_list("xmlhttprequest", requested_with) or (dest or "").lower() == "empty")
        for requested_with in naive_values(request, b"x-requested-with")
        for dest in naive_values(request, b"sec-fetch-dest")
    ):
        return False
    return all(
        naive_field(key, quantifier, naive_values(request, key.field_name.lower().encode()))
        for key in asked.all(FieldKey)
    ) and all(
        naive_field(key, quantifier, naive_parameters(request, key.name.removeprefix("query.")))
        for key in asked.all(Parameter)
    )


def naive_parameters(request, name):
    found = set()
    for separators in ("&", "[&;]"):
        parts = re.split(separators, request.target.decode().partition("?")[2])
        values = {part.partition("=")[2] for part in parts if part.partition("=")[0] == name and part}
        found |= values or {None}
    return found


def naive_field(key, quantifier, values) -> bool:
    """One glob must match every reading where all are needed."""
    if key.presence is not None:
        return quantifier((value is not None) is key.presence for value in values)
    return any(
        quantifier(
            value is not None and naive_glob(glob, value, by_member=getattr(key, "by_member", False))
            for value in values
        )
        for glob in key.globs
    )


def naive_glob(glob, value, *, by_member) -> bool:
    texts = [value, *(member.strip() for member in value.split(","))] if by_member else [value]
    return any(fnmatch.fnmatchcase(text.lower(), glob.lower()) for text in texts)


def naive_list(member, value) -> bool:
    return value is not None and member in [each.strip().lower() for each in value.split(",")]


def naive_response(asked, is_broad, response) -> bool:
    """What a 304 leaves open holds in the broad reading only."""
    if not asked.response:
        return True
    statuses, globs, attachment = map(asked.get, (Statuses, ContentTypes, Attachment))
    statuses = statuses and statuses.statuses
    globs = globs and globs.globs
    attachment = attachment and attachment.is_wanted
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


def naive_lines(request, name) -> list[str]:
    return [value.decode("latin-1") for key, value in request.fields if key.lower() == name]


def naive_values(request, name):
    lines = naive_lines(request, name)
    return {", ".join(lines), ",".join(lines), lines[0], lines[-1]} if lines else {None}


def asked(ruleset, request, response) -> tuple[str, str]:
    sent = {name: [v for key, v in request.fields if key.lower() == name] for name in ruleset.field_names}
    values = tuple(
        None if not lines else lines[0] if len(lines) == 1 else tuple(lines) for lines in sent.values()
    )
    verdict = ruleset.decide(request.method, request.target, values)
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
        excepted = None if unless is None else conditions(**unless)
        rules.append(Rule(f"r{number}", policy, conditions(paths=(path,), **options), excepted, mode))
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
