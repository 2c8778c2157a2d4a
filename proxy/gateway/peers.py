"""Who a client is by its address: what forwarding fields and the log say of it, and whether it is believed."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from typing import Any, Final

from proxy.message.forwarding import Peer
from proxy.settings import IPNetwork

_log = logging.getLogger(__name__)

_MAX_PEERS: Final = 4096  # addresses remembered with whether they are trusted
# Told of in the log: some are proxies that were forgotten, a thousand are clients.
_MAX_DISTRUSTED: Final = 64


class Peers:
    """Tells peers by their addresses, and remembers them up to a bound.

    Args:
        trusted: networks whose forwarding fields are believed.
        says_distrusted: log whose forwarding fields were dropped; pointless where nobody's are kept.
    """

    __slots__ = ("_distrusted", "_known", "_says_distrusted", "_trusted")

    def __init__(self, trusted: Sequence[IPNetwork], *, says_distrusted: bool = True) -> None:
        self._trusted = tuple(trusted)
        self._says_distrusted = says_distrusted
        self._known: dict[str, tuple[Peer, str]] = {}
        self._distrusted: set[bytes] = set()

    def of(self, peername: Any) -> tuple[Peer, str]:  # noqa: ANN401 - what the loop gives: a tuple, or text
        """Return what forwarding fields say of a client's address, and the log."""
        host = peername[0] if isinstance(peername, tuple) else ""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _MAX_PEERS:
                self._known.clear()
            known = self._known[host] = self._make(host)
        return known

    def say_distrusted(self, peer: Peer) -> None:
        """Log once per peer that forwarding fields were dropped, and what keeps them."""
        if not self._says_distrusted or peer.address in self._distrusted:
            return
        if len(self._distrusted) < _MAX_DISTRUSTED:
            self._distrusted.add(peer.address)
            _log.warning(
                "dropped the forwarding fields (X-Forwarded-* and the like) of %s; "
                "if it is a proxy of yours, name it in --trusted-proxies",
                peer.address.decode(),
            )

    def _make(self, host: str) -> tuple[Peer, str]:
        if not host:
            return Peer(is_trusted=True), ""  # a Unix socket: whoever may open it
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:  # an IPv4 client on a socket for both
            address, host = mapped, str(mapped)
        return Peer(host.encode(), any(address in network for network in self._trusted)), host


Endpoints = tuple[tuple[str, int], tuple[str, int]]
"""The client's and the server's end of a TCP connection, each as address and port."""


def endpoints(client: object, server: object) -> Endpoints | None:
    """Name the ends of a TCP connection alike, whatever its socket calls them; `None` for a Unix socket's.

    Args:
        client, server: as sockets name them. Both ends are needed, as two connections of one host to different places
            may have the same address and port at their near ends.
    """
    if not isinstance(client, tuple) or not isinstance(server, tuple):
        return None
    (one, other) = ((str(host).removeprefix("::ffff:"), int(port)) for host, port, *_ in (client, server))
    return one, other
