"""Schemes that authenticate a connection, RFC 4559, are told from those that authenticate a request."""

from __future__ import annotations

import pytest

from proxy.message.authentication import authenticates_connection


@pytest.mark.parametrize(
    "value",
    [
        b"NTLM",
        b"ntlm TlRMTVNTUAABAAAA",
        b"Negotiate",
        b"NEGOTIATE YIIZ",
        b"Basic realm=x, NTLM",
        b'Digest qop="auth,auth-int", nonce="a",\tNegotiate',
    ],
)
def test_ntlm_and_negotiate_do_wherever_they_stand_in_the_list(value):
    assert authenticates_connection([(0, b"Basic realm=x"), (1, value)])


@pytest.mark.parametrize(
    "value", [b"", b"Basic realm=ntlm", b"Bearer ntlm", b"NTLMv2", b"X-Negotiate", b'Digest realm="NTLM"']
)
def test_others_do_not(value):
    assert not authenticates_connection([(0, value)])
