"""What of the content that passes is compared, and what the audit's mistakes cost: nothing but the audit's answers."""

from __future__ import annotations

import pytest

from proxy.audit.collector import COMPARED_BYTES_PER_TICK, MAX_CONTENT_BYTES, NOT_SEEN, Collector
from proxy.gateway.audit_feed import AuditFeed, Passing
from proxy.message.rewrite import UNTOUCHED
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.verdict import Resolution
from proxy.rules.policies import PASS, STRICT
from tests.gateway.fakes import Surroundings, broken, request, response

PIECE = bytes(64 * 1024)


def passing(collector: Collector, start: bytes = b"GET /a HTTP/1.1") -> Passing:
    around = Surroundings()
    return Passing(feed_of(around, collector), request(start), response())


def feed_of(around: Surroundings, collector: Collector) -> AuditFeed:
    return AuditFeed(collector, Ruleset(), around.context.loop, around.context.recorder)


def test_content_is_compared_up_to_a_size_and_not_of_other_methods():
    collector = Collector(b"secret")
    whole, large, posted = passing(collector), passing(collector), passing(collector, b"POST /a HTTP/1.1")
    whole.add(PIECE)
    for _ in range(MAX_CONTENT_BYTES // len(PIECE) + 1):
        large.add(PIECE)
    posted.add(PIECE)
    assert whole.checksum != NOT_SEEN
    assert large.checksum == posted.checksum == NOT_SEEN


def test_only_so_much_content_is_compared_between_two_ticks():
    """At full load the checksums of 64 KiB answers cost two thirds of a request more."""
    collector = Collector(b"secret")
    for _ in range(COMPARED_BYTES_PER_TICK // len(PIECE)):
        one = passing(collector)
        one.add(PIECE)
        assert one.checksum != NOT_SEEN
    more = passing(collector)
    more.add(PIECE)
    assert (more.checksum, more.size) == (NOT_SEEN, len(PIECE))
    collector.tick(0)
    assert passing(collector).checksum != NOT_SEEN


@pytest.mark.interpreted
@pytest.mark.parametrize("policy", [PASS, STRICT])
def test_answer_reaches_its_client_whatever_the_audit_makes_of_it(policy, monkeypatch, caplog):
    """It was an internal error of the exchange, and the client was reset."""
    around = Surroundings()
    for name in ("take", "take_protected"):
        monkeypatch.setattr(Collector, name, broken)
    found = feed_of(around, Collector(b"secret")).begin(
        request(), response(), Resolution(None, policy, UNTOUCHED)
    )
    assert (found is None) is (policy is STRICT)
    if found is not None:
        found.add(PIECE)
        found.end()
    assert around.stats.proxy_errors == {"internal_error": 1}
    assert [record.getMessage() for record in caplog.records] == ["the audit failed"]
