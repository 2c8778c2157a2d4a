"""Request methods, RFC 9110 section 9: which are forwarded, and what is known of them."""

from __future__ import annotations

from typing import Final

_NAMES: Final = (
    "ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY "
    "OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT REBIND REPORT SEARCH SUBSCRIBE TRACE UNBIND UNLINK UNLOCK "
    "UNSUBSCRIBE"
)

METHODS: Final = frozenset(_NAMES.split())
"""Methods that are forwarded. Any other, and any in lower case, is refused: app and rules might differ on it."""

RETRIEVALS: Final = ("GET", "HEAD")
"""Methods whose responses caches reuse, and whose preconditions validate a stored response."""

IDEMPOTENT: Final = frozenset(
    (*RETRIEVALS, "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH")
)
"""Methods that may be sent twice: RFC 9110 section 9.2.2, and the reading methods of WebDAV."""

OVERRIDES: Final = (b"x-http-method-override", b"x-http-method", b"x-method-override")
"""Fields that WSGI middlewares turn into the request method, whatever the method on the wire."""
