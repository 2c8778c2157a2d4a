"""What a request says of its way: who asked whom for what (`X-Forwarded-*`, `Via`), and what may be switched to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from proxy.message.field_index import Noted, drop, value_of
from proxy.message.fields import is_upgrade_token_list, list_members

Forwarding = Literal["append", "replace", "off"]

FORWARDING_FIELDS: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
"""Fields in which proxies tell the app about the client's connection."""

VIA: Final = (b"Via: 1.0 nocache-proxy", b"Via: 1.1 nocache-proxy")
"""By the minor version in which the client spoke, RFC 9110 section 7.6.3."""

# An upgrade to another HTTP would carry requests past the rules ("h2c smuggling").
_HTTP_UPGRADES: Final = (b"h2c", b"h2", b"http/", b"tls/")
_NO_ADDRESS: Final = b"unix:"


@dataclass(frozen=True, slots=True)
class Peer:
    """What forwarding fields say of the client's connection.

    Attributes:
        address: the IP address as text, empty on a Unix socket.
        is_trusted: the forwarding fields that it sends are kept and added to.
    """

    address: bytes = b""
    is_trusted: bool = False


def forwarding_lines(
    lines: list[bytes], noted: Noted, host: bytes | None, peer: Peer, *, keeps_theirs: bool
) -> Sequence[bytes]:
    """Say who asked for what, and drop the lines that said so before (Go's `SetXForwarded`).

    Args:
        host: that the client asked for.
        keeps_theirs: continue what the client said.

    Returns:
        The lines to add; empty ones among them.
    """
    if noted.keys().isdisjoint(FORWARDING_FIELDS):
        return _first_forwarding_lines(peer.address, host)
    theirs: dict[bytes, bytes] = {}
    for name in FORWARDING_FIELDS:
        if name in noted and not (keeps_theirs and name == b"forwarded"):
            theirs[name] = value_of(noted, name) or b""
            drop(lines, noted, name)
    if not keeps_theirs:
        return _first_forwarding_lines(peer.address, host)
    address = peer.address or _NO_ADDRESS
    chain = theirs.get(b"x-forwarded-for")
    host = theirs.get(b"x-forwarded-host", host)
    return (
        b"X-Forwarded-For: " + (chain + b", " + address if chain else address),
        b"X-Forwarded-Proto: " + theirs.get(b"x-forwarded-proto", b"http"),
        b"X-Forwarded-Host: " + host if host else b"",
    )


@lru_cache(256)  # clients come back; addresses are short, and so are hosts that were checked
def _first_forwarding_lines(address: bytes, host: bytes | None) -> Sequence[bytes]:
    """Say it where nobody did before."""
    return (
        b"X-Forwarded-For: " + (address or _NO_ADDRESS),
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: " + host if host else b"",
    )


def forwarded_upgrade(noted: Noted) -> bytes:
    """Return the protocols of `Upgrade` that may be forwarded, as sent; empty when there are none."""
    value = value_of(noted, b"upgrade") or b""
    if not is_upgrade_token_list(value):
        return b""
    return b", ".join(
        member for member in list_members(value) if not member.lower().startswith(_HTTP_UPGRADES)
    )
