"""How a connection to the app is made: by Unix socket or TCP, with TLS, at whichever of its addresses answers."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

import aiohappyeyeballs

from proxy.settings import Settings

# RFC 8305 section 5 recommends 250 ms: an address that drops what is sent to it costs a new connection so much.
_NEXT_ADDRESS_S: Final = 0.25


class Dialer:
    """Opens transports to the app.

    Args:
        settings: where it is, and how it is spoken to.
    """

    def __init__(self, settings: Settings) -> None:
        self._upstream = settings.upstream
        self._tls = tls_context(settings)
        # A final dot says that a name is whole. It belongs to the resolver: certificates have none (RFC 6066 section 3).
        self._server_hostname = self._upstream.host.removesuffix(".") if self._tls is not None else None
        self._is_name = self._upstream.scheme != "unix" and not _is_address(self._upstream.host)

    async def dial(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Connect a protocol.

        Raises:
            OSError, ssl.SSLError: it cannot be done.
        """
        loop = asyncio.get_running_loop()
        upstream = self._upstream
        if upstream.scheme == "unix":
            transport, _ = await loop.create_unix_connection(lambda: protocol, str(upstream.path))
            return transport
        connected = await self._race(loop) if self._is_name else None
        if connected is None:
            transport, _ = await loop.create_connection(
                lambda: protocol,
                upstream.host,
                upstream.port,
                ssl=self._tls,
                server_hostname=self._server_hostname,
            )
            return transport
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, sock=connected, ssl=self._tls, server_hostname=self._server_hostname
            )
        except BaseException:
            connected.close()
            raise
        return transport

    async def _race(self, loop: asyncio.AbstractEventLoop) -> socket.socket | None:
        """Connect to the first of several addresses that answers, RFC 8305; `None` when there is but one."""
        addresses = await self._resolve(loop)
        if len(addresses) <= 1:
            return None
        return await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, loop=loop
        )

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> Sequence[Any]:  # as `getaddrinfo` gives them
        """Resolve the name anew for each connection: a container that is restarted comes back at another address."""
        return await loop.getaddrinfo(self._upstream.host, self._upstream.port, type=socket.SOCK_STREAM)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Make what TLS towards the app is checked by; `None` where it is spoken to in the clear."""
    if settings.upstream.scheme != "https":
        return None
    context = ssl.create_default_context(cafile=str(settings.upstream_ca) if settings.upstream_ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
