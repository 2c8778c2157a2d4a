"""Which rules are proposed: few, and none that takes more than it must."""

from __future__ import annotations

import pytest

from proxy.audit.proposals import Proposal
from proxy.rules.loading.loader import loads
from proxy.rules.tools import lint, rule_tests
from tests.audit.answers import XHR, answer, report_of


def file(target: str, at_s: float = 0, content: bytes = b"1", **fields):
    fields.setdefault("kind", "text/javascript" if target.endswith("js") else "text/css")
    return answer(at_s, target, content, **fields)


def proposals_of(*answers) -> list[Proposal]:
    report = report_of(*answers)
    assert report.proposals.refused == ()
    rules = loads(report.proposals.to_yaml().encode(), "proposed")
    assert rule_tests.run(rules) == []
    assert lint.lint(rules) == []
    return list(report.proposals.proposals)


def globs_of(*answers) -> list[list[str]]:
    return [proposal.globs for proposal in proposals_of(*answers)]


def test_directory_of_static_files_gets_one_rule():
    files = [file(f"/static/{name}") for name in ("a.js", "b.js", "css/c.css", "js/lib/d.js")]
    (proposal,) = proposals_of(*files)
    assert (proposal.globs, proposal.policy) == (["/static/**"], "revalidate")
    assert proposal.name == "audit-static"
    assert 'because: "4 files, the worst: caches may reuse it' in proposal.rule_yaml()


def test_rule_for_a_directory_is_told_for_each_of_its_routes():
    report = report_of(file("/static/a.js"), file("/static/b.js"))
    assert len({*report.proposals.by_route().values()}) == 1
    assert len(report.proposals.by_route()) == 2


@pytest.mark.parametrize(
    "other",
    [
        file("/static/logo.3f2a9c81.css"),
        answer(0, "/static/data.json", cache_control="no-store"),
        answer(0, "/static/data.json"),
        answer(0, "/static/none.css", status=404),
        file("/static/known.js", protected=True),
    ],
    ids=["fine", "not reusable", "data", "error", "protected"],
)
def test_files_beside_something_else_are_named_one_by_one_in_one_rule(other):
    files = [file(f"/static/{name}") for name in ("a.js", "b.js")]
    assert ["/static/a.js", "/static/b.js"] in globs_of(*files, other)


def test_directory_below_one_with_something_else_is_taken_whole():
    seen = [file(f"/static/js/{name}") for name in ("a.js", "b.js")]
    assert globs_of(*seen, file("/static/x.css", cache_control="no-cache")) == [["/static/js/**"]]


def test_files_at_the_root_do_not_make_a_rule_for_everything():
    assert sorted(globs_of(file("/a.js"), file("/b.js"))) == [["/a.js"], ["/b.js"]]


def test_only_file_of_a_directory_is_named():
    assert globs_of(file("/static/a.js")) == [["/static/a.js"]]


def test_view_of_the_same_name_as_a_directory_keeps_a_rule_of_its_own():
    seen = [file("/app/a.js"), file("/app/b.js"), answer(0, "/app", b"1", XHR), answer(1, "/app", b"2", XHR)]
    assert sorted(globs_of(*seen)) == [["/app"], ["/app/a.js", "/app/b.js"]]


def test_rule_for_a_directory_stands_before_one_that_would_take_its_files():
    rows = [answer(n, f"/User{n}x/Row{n}x", b"%d" % n) for n in range(30)]
    assert globs_of(file("/static/a.js"), file("/static/b.js"), *rows) == [["/static/**"], ["/*/*"]]


def test_many_files_do_not_make_as_many_tests():
    proposal, *others = proposals_of(*(file(f"/static/{chr(97 + n)}.js") for n in range(20)))
    assert others == []
    assert proposal.tests_yaml().count("request:") == 5
    assert len(proposal.samples()) == 20
