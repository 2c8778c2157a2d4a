"""One worker: everything that its connections share, from the first accept to the end of the drain."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from proxy.gateway.access_log import AccessLog, Entry
from proxy.gateway.client import ClientConnection
from proxy.gateway.clock import Clock
from proxy.gateway.failures import DRAINED, Failure, connect_failure
from proxy.gateway.pool import Pool
from proxy.gateway.read_buffer import Inbox
from proxy.gateway.write_batch import Outbox
from proxy.message.forwarding import Peer
from proxy.message.request import RequestTable
from proxy.message.syntax import HeadParser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.rules.engine.matching import Ruleset
    from proxy.settings import Settings
    from proxy.stats import Stats

_log = logging.getLogger(__name__)

_BACKLOG: Final = 2048
_MAX_PEERS: Final = 4096  # addresses remembered with whether they are trusted
_MAX_DISTRUSTED: Final = (
    64  # peers told of in the log: some are proxies that were forgotten, a thousand are clients
)


class Gateway:
    """Accepts clients and serves them.

    Args:
        settings: of this process.
        ruleset: in force for the first request; assign `ruleset` to change it for the next request head.
        stats: counted into.
        access_log: written to, and flushed on each tick.
        loop: the event loop that all connections run on.

    Attributes:
        requests: reads request heads for the rules in force.
        outbox: writes what connections send, turn by turn.
        clients: every open client connection.
        is_draining: no further request is taken from any connection.
    """

    def __init__(
        self,
        settings: Settings,
        ruleset: Ruleset,
        stats: Stats,
        access_log: AccessLog,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.settings = settings
        self.stats = stats
        self.access_log = access_log
        self.loop = loop
        self.ruleset = ruleset
        self.response_parser = HeadParser("response")
        self.clock = Clock(loop, self._sweep)
        self.pool = Pool(self)
        self.inbox = Inbox()
        self.outbox = Outbox(loop)
        self.clients: set[ClientConnection] = set()
        self.is_draining = False
        self._servers: list[asyncio.AbstractServer] = []
        self._peers: dict[str, tuple[Peer, str]] = {}
        self._distrusted: set[bytes] = set()
        self._all_left: asyncio.Event | None = None

    @property
    def ruleset(self) -> Ruleset:
        """The rules in force."""
        return self._ruleset

    @ruleset.setter
    def ruleset(self, ruleset: Ruleset) -> None:
        self._ruleset = ruleset
        settings = self.settings
        self.requests = RequestTable(
            ruleset.field_names,
            settings.underscore_fields,
            settings.upstream.authority.encode(),
            settings.forwarded,
            settings.via,
        )

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept on sockets that are bound."""
        self.clock.start()
        for listening in sockets:
            is_unix = listening.family == socket.AF_UNIX
            create = self.loop.create_unix_server if is_unix else self.loop.create_server
            self._servers.append(await create(self._protocol, sock=listening, backlog=_BACKLOG))

    async def drain(self, timeout_s: float) -> int:
        """Stop accepting, let exchanges in flight end, break off what has not ended in time.

        Returns:
            How many exchanges were broken off.
        """
        self.is_draining = True
        self._all_left = asyncio.Event()
        for server in self._servers:
            server.close()
        for client in tuple(self.clients):
            client.drain()
        if self.clients:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._all_left.wait()
        aborted = [client for client in tuple(self.clients) if client.exchange is not None]
        self.close()
        return len(aborted)

    def close(self) -> None:
        """Break everything off at once."""
        self.is_draining = True
        self.outbox.flush()
        for server in self._servers:
            server.close()
        for client in tuple(self.clients):
            if client.exchange is not None:
                client.exchange.abandon(DRAINED)
            else:
                client.give_up()
        self.pool.close()
        self.clock.stop()
        self.access_log.flush()

    async def probe_upstream(self) -> str | None:
        """Try to connect to the app: `None`, or why it cannot be reached."""
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                await self.pool.probe()
        except (OSError, TimeoutError) as error:
            failure = connect_failure(error)
            return f"{failure.text} ({failure.detail})"
        return None

    def peer_of(self, peername: Any) -> tuple[Peer, str]:  # noqa: ANN401 - what the loop gives: a tuple, or text
        """What forwarding fields and the log say of a client's address."""
        host = peername[0] if isinstance(peername, tuple) else ""
        known = self._peers.get(host)
        if known is None:
            if len(self._peers) >= _MAX_PEERS:
                self._peers.clear()
            known = self._peers[host] = self._make_peer(host)
        return known

    def say_distrusted(self, peer: Peer) -> None:
        """Log once per peer that forwarding fields were dropped, and what keeps them."""
        if peer.address in self._distrusted or self.settings.forwarded != "append":
            return
        if len(self._distrusted) < _MAX_DISTRUSTED:
            self._distrusted.add(peer.address)
            _log.warning(
                "dropped the forwarding fields (X-Forwarded-* and the like) of %s; "
                "if it is a proxy of yours, name it in --trusted-proxies",
                peer.address.decode(),
            )

    def count_refusal(self, failure: Failure, address: str, size: int) -> None:
        """Count and log a request that was answered before it became an exchange."""
        errors = self.stats.upstream_errors if failure.is_upstream else self.stats.client_errors
        errors[failure.reason] += 1
        self.stats.count_exchange("", "", failure.status, 0.0)
        error = f"{failure.reason}: {failure.detail}" if failure.detail else failure.reason
        self.access_log.write(
            Entry(time.time(), "", "", failure.status, 0, 0.0, 0.0, 0, size, address, "", "", 0, error, "")
        )

    def last_client_left(self) -> None:
        """No client connection is open any more."""
        if self._all_left is not None:
            self._all_left.set()

    def _protocol(self) -> ClientConnection:
        return ClientConnection(self)

    def _make_peer(self, host: str) -> tuple[Peer, str]:
        if not host:
            return Peer(is_trusted=True), ""  # a Unix socket: whoever may open it
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:  # an IPv4 client on a socket for both
            address, host = mapped, str(mapped)
        is_trusted = any(address in network for network in self.settings.trusted_proxies)
        return Peer(host.encode(), is_trusted), host

    def _sweep(self) -> None:
        """On each tick: deadlines, connections at rest, the log."""
        now_s = self.clock.now_s
        for client in [client for client in self.clients if client.deadline_s <= now_s]:
            client.timed_out()
        self.pool.sweep()
        self.access_log.flush()
        self.stats.access_log_lines_dropped_total = self.access_log.dropped
