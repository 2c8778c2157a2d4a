"""One exchange as a value: counting, the access log and the audit read it, and nothing else of the exchange."""

from __future__ import annotations

from proxy.gateway.failures import Failure
from proxy.message.field_index import Noted
from proxy.message.request import RequestHead
from proxy.message.response import ResponseHead


class Record:
    """What is known of an exchange; filled in while it goes on, handed to the `Recorder` when it ends.

    A request that is refused before it becomes an exchange has a record, too, with method and target as far as they
    can be read. What is never set stays at its default, which costs nothing.

    Attributes:
        method, target, host: as sent; empty where they cannot be read.
        client: the address of the connection, empty on a Unix socket.
        started_s: by the performance counter, when the request's head was read.
        ended_s: seconds since the epoch when the exchange ended.
        duration_s: from the request's head to the end of the response.
        upstream_s: from the request's head to the head of the app's response; 0 when there was none.
        status: sent to the client, 499 when it left before, 0 for none; `upstream_status` likewise.
        bytes_in, bytes_out: of content, or of what was tunnelled; the gateway's own answers count, too.
        rule, policy, observed: names, empty for none.
        changed: field lines of the response that were taken away, rewritten or written.
        failure: why the gateway answered itself, or broke off.
        is_tunnel: the connection was upgraded.
        sent: the head that the client got: of the gateway's own answers, and of all while somebody watches.
        request, response: the heads that came in, until `let_go`.
        user_agent, referer, request_id, traceparent: of the request, for the log; from `let_go` on, and so are
            the lines of `forwarded_for`, each with its place. A `request_id` may have been made.
    """

    duration_s: float = 0.0
    ended_s: float = 0.0
    upstream_s: float = 0.0
    status: int = 0
    upstream_status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rule: str = ""
    policy: str = ""
    observed: str = ""
    changed: int = 0
    failure: Failure | None = None
    is_tunnel: bool = False
    sent: bytes = b""
    response: ResponseHead | None = None
    user_agent: bytes | None = None
    referer: bytes | None = None
    request_id: bytes | None = None
    traceparent: bytes | None = None
    forwarded_for: list[tuple[int, bytes]] | None = None

    def __init__(
        self,
        *,
        method: str = "",
        target: bytes = b"",
        host: bytes | None = None,
        client: str = "",
        started_s: float = 0.0,
        request: RequestHead | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.host = host
        self.client = client
        self.started_s = started_s
        self.request = request

    def let_go(self) -> None:
        """Keep of the heads what the log says, and nothing else.

        A batch of records waits for the log. With their heads it would hold some 300 KB, so that new requests would get
        memory that is not in the processor's caches: a tenth more CPU a request. A head may also be as large as 64 KiB.
        """
        request = self.request
        if request is not None:
            noted = request.noted
            self.user_agent = _first(noted, b"user-agent")
            self.referer = _first(noted, b"referer")
            self.request_id = _first(noted, b"x-request-id") or request.made_id
            self.traceparent = _first(noted, b"traceparent")
            self.forwarded_for = noted.get(b"x-forwarded-for")
        self.request = self.response = None
        self.sent = b""

    @property
    def error(self) -> str:
        """The failure's reason and the words for the log, empty for none."""
        failure = self.failure
        if failure is None:
            return ""
        return f"{failure.reason}: {failure.detail}" if failure.detail else failure.reason


def _first(noted: Noted, name: bytes) -> bytes | None:
    places = noted.get(name)
    return None if places is None else places[0][1]
