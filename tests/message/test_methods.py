"""Request methods, RFC 9110 section 9."""

from __future__ import annotations

from proxy.message.methods import IDEMPOTENT, METHODS, RETRIEVALS


def test_methods_that_may_be_sent_twice_are_methods():
    """RFC 9110 section 9.2.2: POST and PATCH are not among them."""
    assert IDEMPOTENT < METHODS
    assert not IDEMPOTENT & {"POST", "PATCH", "CONNECT", "LOCK"}
    assert set(RETRIEVALS) < IDEMPOTENT
