"""The law of `query`: however a parameter is written, what the app reads there decides.

The judges are Werkzeug's and Django's own parsers, and the standard library's with `;` as a separator, as Python had it
up to 3.9.
"""

from __future__ import annotations

from collections import Counter
from urllib.parse import parse_qs

import django.conf
import pytest
from django.http import QueryDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.wrappers import Request

from proxy.rules.engine.matching import Ruleset
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.query import Parameter
from proxy.rules.model import Rule
from proxy.rules.policies import PASS, STRICT

if not django.conf.settings.configured:
    django.conf.settings.configure()

NAME = "action"
GLOBS = (("list*",), ("a b",), ("a+b",), ("größe", "x?"), ("",), True, False)
PIECES = st.sampled_from(
    b"action action acti%6fn ac%74ion act%69on Action list listing l%69st * a+b a%20b a%2Bb a%2bb x y xy + %2B "
    b"gr%C3%B6%C3%9Fe gr\xc3\xb6\xc3\x9fe gr%F6%DFe gr\xf6\xdfe % %zz %E %C3 \xc3 %A9 ? / [] %00".split()
)
SEPARATORS = st.sampled_from([b"=", b"=", b"=", b"&", b"&", b";", b"", b"&&", b"==", b"%26", b"%3D"])


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Queries in which the parameter mostly is, in some spelling."""
    parts = [draw(PIECES) + draw(SEPARATORS) for _ in range(draw(st.integers(0, 6)))]
    if draw(st.booleans()):
        parts.insert(
            draw(st.integers(0, len(parts))), draw(st.sampled_from([b"&action=", b"action=", b";action="]))
        )
    return b"".join(parts)


def read_by_apps(query: bytes) -> dict[str, list[str]]:
    """What each app finds in the parameter, in order."""
    as_wsgi = query.decode("latin-1")
    read = {
        "Django": QueryDict(query).getlist(NAME),
        "cgi": parse_qs(as_wsgi.replace(";", "&"), keep_blank_values=True).get(NAME, []),
        "latin-1": parse_qs(as_wsgi, keep_blank_values=True, encoding="latin-1").get(NAME, []),
    }
    try:
        read["Werkzeug"] = Request({"QUERY_STRING": as_wsgi}).args.getlist(NAME)
    except UnicodeDecodeError:
        pass  # raw bytes that are not UTF-8: no view is reached
    return read


def takes(wanted: tuple[str, ...] | bool, value: str | None) -> bool:
    if isinstance(wanted, bool):
        return (value is not None) is wanted
    return value is not None and any(
        value == glob
        or (glob == "list*" and value.startswith("list"))
        or (glob == "x?" and len(value) == 2 and value[0] == "x")
        for glob in wanted
    )


PROTECTED = {wanted: Ruleset([Rule("r", STRICT, Conditions([Parameter(NAME, wanted)]))]) for wanted in GLOBS}
WEAKENED = {wanted: Ruleset([Rule("r", PASS, Conditions([Parameter(NAME, wanted)]))]) for wanted in GLOBS}
EXCEPTED = {
    wanted: Ruleset([Rule("r", STRICT, unless=Conditions([Parameter(NAME, wanted)]))]) for wanted in GLOBS
}


def applies(ruleset: Ruleset, query: bytes) -> bool:
    return ruleset.decide("GET", b"/p?" + query, ()).rule is not None


def check(query: bytes) -> Counter[str]:
    """Hold the law for one query; count what each app took, with what globs."""
    counted: Counter[str] = Counter()
    for wanted in GLOBS:
        is_protected = applies(PROTECTED[wanted], query)
        is_weakened = applies(WEAKENED[wanted], query)
        is_enforced = applies(EXCEPTED[wanted], query)
        for app, values in read_by_apps(query).items():
            # Flask takes the first, Django the last.
            for value in (values[0], values[-1]) if values else (None,):
                where = f"{query!r}: {app} reads {value!r}, the rule asks for {wanted}"
                if takes(wanted, value):
                    counted[app] += 1
                    assert is_protected, where
                else:
                    assert not is_weakened, where
                    assert is_enforced, where
    return counted


def hold(examples: int) -> Counter[str]:
    counted: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 100_000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(queries())
    def law(query: bytes) -> None:
        counted["queries"] += 1
        counted.update(check(query))

    law()
    return counted


@pytest.mark.parametrize(
    "examples", [1500, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_whatever_an_app_reads_in_a_parameter_decides(examples: int) -> None:
    counted = hold(examples)
    print(dict(counted))
    assert min(counted[app] for app in ("Werkzeug", "Django", "cgi", "latin-1")) > counted["queries"], counted


@pytest.mark.parametrize(
    "query",
    [
        b"action=list",
        b"acti%6Fn=l%69st",
        b"action=x&action=list",
        b"action=list&action=x",
        b"x=1;action=list",
        b"action=gr%F6%DFe&action=list",
    ],
)
def test_spelling_of_a_parameter_is_no_way_round(query) -> None:
    assert applies(PROTECTED[("list*",)], query)
    check(query)
