"""What of the content that passes is compared."""

from __future__ import annotations

from proxy.audit.collector import COMPARED_BYTES_PER_TICK, MAX_CONTENT_BYTES, NOT_SEEN, Collector
from proxy.gateway.audit_feed import Passing
from tests.gateway.fakes import request, response

PIECE = bytes(64 * 1024)


def passing(collector: Collector, start: bytes = b"GET /a HTTP/1.1") -> Passing:
    return Passing(collector, request(start), response())


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
