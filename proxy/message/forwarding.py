"""What a request says of its way: who asked whom for what (`X-Forwarded-*` and its kin, `Via`), and what it may switch to.

Apps believe these fields, so only a trusted proxy may send them. What a trusted peer says is kept, and nothing is added
that contradicts it: gunicorn answers 400 to `X-Forwarded-Proto: http` beside `X-Forwarded-Ssl: on`. Of any other peer
the whole family is dropped, whatever the spelling under which some app reads it.

`Forwarded` of a trusted peer is passed on as it is, as nginx and Envoy do unless they are told otherwise: RFC 7239
section 4 leaves it to each proxy whether it adds an element. The way through this proxy is in `X-Forwarded-For`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from proxy.message.field_index import Noted, drop, value_of
from proxy.message.fields import is_upgrade_token_list, list_members

Forwarding = Literal["append", "replace", "off"]
Via = Literal["off", "on"]

PREFIX: Final = b"x-forwarded-"
"""Every field whose name begins so belongs to the family."""

SCHEME_FIELDS: Final = (
    b"x-forwarded-proto",
    b"x-forwarded-protocol",  # gunicorn
    b"x-forwarded-ssl",
    b"x-forwarded-scheme",  # Rack
    b"x-forwarded-https",
    b"x-url-scheme",
    b"x-scheme",  # the ReverseProxied snippet for Flask
    b"front-end-https",  # Microsoft's gateways
    b"x-arr-ssl",  # IIS
    b"wl-proxy-ssl",  # WebLogic
    b"cf-visitor",  # Cloudflare
    b"cloudfront-forwarded-proto",
)
HOST_FIELDS: Final = (b"x-forwarded-host", b"x-original-host", b"x-http-host-override", b"x-host")
ADDRESS_FIELDS: Final = (
    b"x-forwarded-for",
    b"x-forwarded",
    b"forwarded-for",
    b"x-real-ip",
    b"x-client-ip",
    b"client-ip",  # Rails
    b"x-cluster-client-ip",
    b"x-original-forwarded-for",
    b"x-originating-ip",
    b"x-remote-ip",
    b"x-remote-addr",
    b"true-client-ip",  # Akamai, Cloudflare
    b"cf-connecting-ip",
    b"fastly-client-ip",
    b"fly-client-ip",
    b"x-azure-clientip",
    b"x-appengine-user-ip",
    b"x-envoy-external-address",
    b"x-proxyuser-ip",
    b"proxy-client-ip",
    b"wl-proxy-client-ip",
)
PATH_FIELDS: Final = (
    b"x-script-name",  # the ReverseProxied snippet for Flask
    b"x-forwarded-prefix",  # Werkzeug's ProxyFix, Spring
    b"x-forwarded-path",
    b"x-forwarded-uri",
    b"x-original-url",  # IIS, Symfony
    b"x-original-uri",
    b"x-rewrite-url",
    b"x-request-uri",
    b"x-envoy-original-path",
)
"""Fields by which frameworks and middlewares take another path than that of the request target."""

FAMILY: Final = frozenset((b"forwarded", *SCHEME_FIELDS, *HOST_FIELDS, *ADDRESS_FIELDS, *PATH_FIELDS))
"""Names of the family, lower case; those that begin with `PREFIX` belong to it, too."""

_FOR: Final = b"x-forwarded-for"
_FORWARDED: Final = b"forwarded"  # RFC 7239
_SAID: Final = frozenset((_FORWARDED, _FOR, *SCHEME_FIELDS, *HOST_FIELDS))
_VIA: Final = (b"Via: 1.0 nocache-proxy", b"Via: 1.1 nocache-proxy")

# An upgrade to another HTTP would carry requests past the rules ("h2c smuggling").
_HTTP_UPGRADES: Final = (b"h2c", b"h2", b"http/", b"tls/")


@dataclass(frozen=True, slots=True)
class Peer:
    """What forwarding fields say of the client's connection.

    Attributes:
        address: the IP address as text, empty on a Unix socket.
        is_trusted: the forwarding fields that it sends are kept and added to.
    """

    address: bytes = b""
    is_trusted: bool = False


def is_forwarding_field(name: bytes) -> bool:
    """Tell whether a field, by its lower-case name, is believed by some app only because a proxy should have sent it."""
    return name in FAMILY or name.startswith(PREFIX)


def forwarding_lines(
    lines: list[bytes], noted: Noted, address: bytes, host: bytes | None, via: bytes
) -> Sequence[bytes]:
    """Say who asked for what; what the client said of it is added to: scheme and host only if it named none.

    Args:
        lines, noted: of the request, without forwarding fields of a client that is not trusted. The lines of a
            chain are dropped here, as it leaves in one.
        address: of the client; empty for none.
        host: that the client asked for.
        via: one of `via_lines`.
    """
    if noted.keys().isdisjoint(_SAID):
        return _first_lines(address, host, via)
    added: list[bytes] = []
    if address:
        chain = value_of(noted, _FOR)
        drop(lines, noted, _FOR)
        added.append(b"X-Forwarded-For: " + (chain + b", " + address if chain else address))
    forwarded = (value_of(noted, _FORWARDED) or b"").lower()
    if b"proto=" not in forwarded and noted.keys().isdisjoint(SCHEME_FIELDS):
        added.append(b"X-Forwarded-Proto: http")
    if host and b"host=" not in forwarded and noted.keys().isdisjoint(HOST_FIELDS):
        added.append(b"X-Forwarded-Host: " + host)
    if via:
        added.append(via)
    return added


@lru_cache(256)  # clients come back; addresses are short, and so are hosts that were checked
def _first_lines(address: bytes, host: bytes | None, via: bytes) -> tuple[bytes, ...]:
    """Say it where nobody did before."""
    return (
        *((b"X-Forwarded-For: " + address,) if address else ()),
        b"X-Forwarded-Proto: http",
        *((b"X-Forwarded-Host: " + host,) if host else ()),
        *((via,) if via else ()),
    )


def via_lines(via: Via) -> Sequence[bytes]:
    """Return the line to add for a client that speaks HTTP/1.0, and for one of HTTP/1.1 (RFC 9110 section 7.6.3)."""
    return _VIA if via == "on" else (b"", b"")


def forwarded_upgrade(noted: Noted) -> bytes:
    """Return the protocols of `Upgrade` that may be forwarded, as sent; empty when there are none."""
    value = value_of(noted, b"upgrade") or b""
    if not is_upgrade_token_list(value):
        return b""
    return b", ".join(
        member for member in list_members(value) if not member.lower().startswith(_HTTP_UPGRADES)
    )
