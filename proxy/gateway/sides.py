"""The two sides of an exchange, in HTTP's own terms: heads, content, ends and resets, never bytes of HTTP/1.

An exchange calls a `ClientSide` and an `UpstreamSide`, and hears from them what `ExchangeListener` names. Each side
frames by itself. HTTP/2 towards the app, or TLS towards the client, is another side and nothing else.

Four verbs for endings: *close*, all is sent; *reset*, the peer must notice that something is missing; *abort*, nobody
cares any more; *fail*, answer in place of the app, or reset where an answer is under way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol

from proxy.gateway.failures import Failure
from proxy.message.request import RequestHead
from proxy.message.response import OutgoingHead, ResponseHead
from proxy.message.rewrite import Treatment

PauseReason = Literal["client", "connecting", "pipelined", "turn", "upstream"]
"""Why a connection is not read: the client takes no more, no connection to the app stands yet, the client is far ahead,
others have their turn, or the app takes no more."""


class Listener(ABC):
    """What both sides tell an exchange, and the tunnel that may follow it."""

    __slots__ = ()

    @abstractmethod
    def pause_response(self) -> None:
        """The client takes no more for now."""

    @abstractmethod
    def resume_response(self) -> None:
        """The client takes more."""

    @abstractmethod
    def pause_request(self) -> None:
        """The upstream takes no more for now."""

    @abstractmethod
    def resume_request(self) -> None:
        """The upstream takes more."""

    @abstractmethod
    def client_left(self) -> None:
        """The client's connection is gone."""

    @abstractmethod
    def timed_out(self) -> None:
        """`ClientSide.deadline_s` has passed."""

    @abstractmethod
    def fail(self, failure: Failure) -> None:
        """It cannot go on: answer in place of the app, or reset."""

    @abstractmethod
    def reset(self, failure: Failure) -> None:
        """It must end at once: reset the client, abort the upstream."""

    @abstractmethod
    def room(self) -> int:
        """How many bytes the client is sure to be sent at once, so none of them stays in this process."""

    @abstractmethod
    def has_unsent_content(self) -> bool:
        """Whether some of what was passed on still waits for the client to take it."""


class ExchangeListener(Listener):
    """What the sides tell an exchange."""

    __slots__ = ()

    @abstractmethod
    def begin(self) -> None:
        """The client's side is ready to be called."""

    @abstractmethod
    def request_content(self, data: bytes) -> None:
        """Some of the request's content has come."""

    @abstractmethod
    def request_end(self) -> None:
        """All of the request has come."""

    @abstractmethod
    def informational(self, response: ResponseHead) -> None:
        """A 1xx response other than 101 has come."""

    @abstractmethod
    def response_head(self, response: ResponseHead) -> None:
        """The head of the final response has come, or a 101.

        Raises:
            MalformedHeadError: it answers what was not asked.
        """

    @abstractmethod
    def response_content(self, data: bytes) -> None:
        """Some of the response's content has come."""

    @abstractmethod
    def large_content(self, data: bytes | memoryview) -> None:
        """Much of the response's content has come.

        Args:
            data: a view's buffer is in use for as long as `has_unsent_content` says so.
        """

    @abstractmethod
    def touch(self) -> None:
        """A byte has moved, be it one of framing."""

    @abstractmethod
    def response_end(self) -> None:
        """The response is complete, and the upstream's side has let go of the exchange."""

    @abstractmethod
    def upstream_lost(self, *, may_retry: bool, detail: str) -> None:
        """The upstream's connection is gone, without the head of a final response.

        Args:
            may_retry: it had served before, and no byte answered this request: its end and the request crossed.
            detail: for the log.
        """


class TunnelListener(Listener):
    """What the sides tell a tunnel."""

    __slots__ = ()

    @abstractmethod
    def from_client(self, data: bytes) -> None:
        """Bytes have come from the client."""

    @abstractmethod
    def from_upstream(self, data: bytes | memoryview) -> None:
        """Bytes have come from the upstream; a view's buffer is in use for as long as `has_unsent_content` says so."""

    @abstractmethod
    def client_half_closed(self) -> bool:
        """The client sends no more; return whether it may still be sent to."""

    @abstractmethod
    def upstream_half_closed(self) -> bool:
        """The upstream sends no more; return whether it may still be sent to."""

    @abstractmethod
    def drain(self) -> None:
        """The worker is to end: end, if nothing is under way."""

    @abstractmethod
    def upstream_gone(self, *, was_reset: bool) -> None:
        """The upstream's connection is gone."""


class ClientSide(Protocol):
    """The client of one exchange at a time.

    Attributes:
        address: of the client, for the log; empty on a Unix socket.
        deadline_s: when `Listener.timed_out` is called, by the worker's clock; whatever moves puts it off.
        is_congested: it does not take what it is sent.
        outgoing: the head of the response that is under way.
        pinned: the upstream's connection that belongs to this client alone, as the app may have authenticated it.
    """

    address: str
    deadline_s: float
    is_congested: bool
    outgoing: OutgoingHead | None
    pinned: UpstreamSide | None

    def send_informational(self, response: ResponseHead) -> None:
        """Send a 1xx other than 101, unless the client knows no such."""

    def send_head(self, response: ResponseHead, treatment: Treatment) -> OutgoingHead:
        """Send the head of a final response under a treatment; return what became of it."""

    def send_content(self, data: bytes) -> None:
        """Send content."""

    def send_large_content(self, data: bytes | memoryview) -> None:
        """Send much content of a known length; a view's buffer is in use until nothing is unsent."""

    def end(self) -> None:
        """The response is complete: go on with the next request, or close."""

    def answer(self, failure: Failure, vary: tuple[str, ...]) -> tuple[bytes, bytes]:
        """Answer in place of the app, then go on or close; return the head and the content."""

    def reset(self) -> None:
        """End the connection so that the client notices that its response is not complete."""

    def room(self) -> int:
        """How many bytes are sure to be sent at once."""

    def has_unsent_content(self) -> bool:
        """Whether some of what was sent has not left this process."""

    def pause_reading(self, reason: PauseReason) -> None:
        """Read no further until `resume_reading` was called for each reason."""

    def resume_reading(self, reason: PauseReason) -> None:
        """Take a reason back."""

    def is_paused_by(self, reason: PauseReason) -> bool:
        """Whether this is a reason why the client is not read."""

    def send_switch(self, response: ResponseHead, asked_for: bytes) -> None:
        """Send a 101.

        Raises:
            MalformedHeadError: the upstream switches to a protocol that nobody asked for.
        """

    def switch_protocols(self, tunnel: TunnelListener) -> None:
        """Pass bytes to and from a tunnel from here on, beginning with those that came early."""

    def send_bytes(self, data: bytes | memoryview) -> None:
        """Send bytes through the tunnel."""

    def half_close(self) -> bool:
        """Send no more; return whether the client can still be heard."""

    def close(self) -> None:
        """Close when all that was sent has left."""

    def pin(self, upstream: UpstreamSide) -> None:
        """Live and die together with a connection of the upstream."""


class UpstreamSide(Protocol):
    """The upstream of one exchange at a time.

    Attributes:
        may_rest: as far as is known, it can serve another exchange after this one.
    """

    may_rest: bool

    def send_head(self, exchange: ExchangeListener, head: RequestHead, *, strips: bool) -> int:
        """Send the head of a request, and tell an exchange what answers it. Without content the request is complete.

        Args:
            strips: leave out what lets the app answer 304.

        Returns:
            How many field lines were left out for that.
        """

    def send_content(self, data: bytes) -> None:
        """Send content."""

    def end(self) -> None:
        """The request is complete."""

    def abort(self) -> None:
        """End the connection at once; nothing is heard of it any more."""

    def pause_reading(self) -> None:
        """Read no further for now."""

    def resume_reading(self) -> None:
        """Read on."""

    def switch_protocols(self, tunnel: TunnelListener) -> None:
        """Pass bytes to and from a tunnel from here on."""

    def send_bytes(self, data: bytes) -> None:
        """Send bytes through the tunnel."""

    def half_close(self) -> bool:
        """Send no more; return whether the upstream can still be heard."""

    def close(self) -> None:
        """Close when all that was sent has left."""

    def belong_to(self, owner: UpstreamOwner) -> None:
        """Rest with an owner, and not in the pool, from here on."""


class UpstreamOwner(Protocol):
    """Who keeps a connection of the upstream for itself."""

    def pinned_lost(self) -> None:
        """The connection is gone while it rested."""


class UpstreamWaiter(Protocol):
    """Who waits for a connection to the upstream."""

    def upstream_ready(self, upstream: UpstreamSide) -> None:
        """It stands."""

    def upstream_unavailable(self, failure: Failure) -> None:
        """It cannot be had."""


class Attempt(Protocol):
    """An attempt to connect."""

    def cancel(self) -> object:
        """Give it up: the waiter hears nothing of it any more."""
