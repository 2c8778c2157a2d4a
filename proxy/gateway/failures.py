"""The catalogue of what can go wrong in an exchange, each kind with who failed."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, replace
from typing import Final, Literal

Source = Literal["client", "upstream", "proxy"]
"""Who failed. It cannot be told by a status: a 502 may be the proxy's own, a 503 nobody's but its own."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the gateway answers itself.

    Attributes:
        source: who failed; metrics and alerts go by it.
        status: sent to the client; 499 is only ever logged.
        reason: a short name for log and metrics: `connect_refused`.
        proxy_status: the error type of RFC 9209, empty when the client failed.
        text: one sentence for whoever reads the answer; nothing of the request in it.
        detail: more for the log: the parser's words, the operating system's.
    """

    source: Source
    status: int
    reason: str
    proxy_status: str
    text: str
    detail: str = ""

    def with_detail(self, detail: str) -> Failure:
        """The same with words for the log."""
        return replace(self, detail=detail)


CONNECT_REFUSED: Final = Failure(
    "upstream", 502, "connect_refused", "connection_refused", "the app does not accept connections"
)
CONNECT_FAILED: Final = Failure(
    "upstream", 502, "connect_failed", "destination_unavailable", "the app cannot be reached"
)
CONNECT_TIMEOUT: Final = Failure(
    "upstream", 504, "connect_timeout", "connection_timeout", "the app could not be reached in time"
)
DNS_ERROR: Final = Failure(
    "upstream", 502, "dns_error", "dns_error", "the app's host name cannot be resolved"
)
TLS_ERROR: Final = Failure(
    "upstream", 502, "tls_error", "tls_certificate_error", "the app's TLS certificate is not accepted"
)
TLS_HANDSHAKE_FAILED: Final = Failure(
    "upstream",
    502,
    "tls_handshake_failed",
    "tls_protocol_error",
    "the app does not speak TLS as it is spoken to",
)
UPSTREAM_CLOSED: Final = Failure(
    "upstream", 502, "upstream_closed", "connection_terminated", "the app closed its connection"
)
UPSTREAM_MALFORMED: Final = Failure(
    "upstream", 502, "upstream_malformed", "http_protocol_error", "the app sent what is not HTTP"
)
UPSTREAM_NOT_MODIFIED: Final = Failure(
    "upstream",
    502,
    "upstream_not_modified",
    "http_protocol_error",
    "the app answered 304 to a request without a condition",
)
UPSTREAM_TOO_LARGE: Final = Failure(
    "upstream",
    502,
    "upstream_head_too_large",
    "http_response_header_section_size",
    "the app sent too large a header section",
)
UPSTREAM_TRUNCATED: Final = Failure(
    "upstream", 502, "upstream_truncated", "http_response_incomplete", "the app broke off within its response"
)
UPSTREAM_TIMEOUT: Final = Failure(
    "upstream", 504, "upstream_timeout", "http_response_timeout", "the app did not answer in time"
)
UPSTREAM_STALLED: Final = Failure(
    "upstream", 504, "upstream_stalled", "http_response_timeout", "the app stopped within an exchange"
)
INTERNAL: Final = Failure("proxy", 502, "internal_error", "proxy_internal_error", "the proxy failed")
BAD_REQUEST: Final = Failure("client", 400, "bad_request", "http_request_error", "the request is malformed")
NOT_IMPLEMENTED: Final = Failure(
    "client", 501, "not_implemented", "http_request_error", "the method is not supported"
)
HEAD_TOO_LARGE: Final = Failure(
    "client", 431, "head_too_large", "http_request_error", "the header section is too large"
)
TARGET_TOO_LONG: Final = Failure(
    "client", 414, "target_too_long", "http_request_error", "the request target is too long"
)
CONTENT_TOO_LARGE: Final = Failure(
    "client", 413, "content_too_large", "http_request_error", "the content is too large"
)
REQUEST_TIMEOUT: Final = Failure(
    "client", 408, "request_timeout", "http_request_error", "the request did not arrive in time"
)
TOO_MANY_CONNECTIONS: Final = Failure(
    "proxy", 503, "too_many_connections", "connection_limit_reached", "too many connections are open"
)
LOOP_DETECTED: Final = Failure(
    "proxy", 508, "loop_detected", "proxy_loop_detected", "the proxy was told that it is its own app"
)
CLIENT_LEFT: Final = Failure("client", 499, "client_left", "", "the client left")
CLIENT_STALLED: Final = Failure("client", 499, "client_stalled", "", "the client stopped reading")
DRAINED: Final = Failure("proxy", 503, "drained", "", "the proxy is shutting down")


def connect_failure(error: BaseException) -> Failure:
    """Translate what the operating system or TLS says of a connection attempt."""
    detail = f"{type(error).__name__}: {error}"
    match error:
        case TimeoutError():
            return CONNECT_TIMEOUT.with_detail(detail)
        case ssl.SSLCertVerificationError():
            return TLS_ERROR.with_detail(detail)
        case ssl.SSLError():
            return TLS_HANDSHAKE_FAILED.with_detail(detail)
        case socket.gaierror():
            return DNS_ERROR.with_detail(detail)
        case ConnectionRefusedError() | FileNotFoundError():
            return CONNECT_REFUSED.with_detail(detail)
        case _:
            return CONNECT_FAILED.with_detail(detail)
