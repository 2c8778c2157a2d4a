"""Status codes that this package treats specially, RFC 9110 section 15; plain integers, as they are compared per request."""

from __future__ import annotations

from typing import Final

SWITCHING_PROTOCOLS: Final = 101
OK: Final = 200
NO_CONTENT: Final = 204
PARTIAL_CONTENT: Final = 206
NOT_MODIFIED: Final = 304
BAD_GATEWAY: Final = 502

FINAL: Final = range(200, 600)
"""Statuses of final responses: those that a policy can apply to."""
