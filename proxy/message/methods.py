"""Request methods, RFC 9110 section 9: which are forwarded, and what is known of them."""

from __future__ import annotations

import re
from typing import Final

from proxy.message.errors import MalformedHeadError

_NAMES: Final = (
    "ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY "
    "OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT REBIND REPORT SEARCH SUBSCRIBE TRACE UNBIND UNLINK UNLOCK "
    "UNSUBSCRIBE"
)

METHODS: Final = frozenset(_NAMES.split())
"""Methods that are known by name. Any other is forwarded, too, if it has the form of `PATTERN`."""

BY_BYTES: Final = {method.encode(): method for method in METHODS}
"""The same by their bytes: the methods for which `parse_method` need not be asked."""

PATTERN: Final = "[A-Z][A-Z0-9_-]{0,31}"
"""The form of methods that are forwarded. WSGI apps fold lower case into upper, so that app and rules might differ on it."""

RETRIEVALS: Final = ("GET", "HEAD")
"""Methods whose responses caches reuse, and whose preconditions validate a stored response."""

IDEMPOTENT: Final = frozenset(
    (*RETRIEVALS, "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH")
)
"""Methods that may be sent twice: RFC 9110 section 9.2.2, and the reading methods of WebDAV."""

OVERRIDES: Final = (b"x-http-method-override", b"x-http-method", b"x-method-override")
"""Fields that WSGI middlewares turn into the request method, whatever the method on the wire."""

_FORM: Final = re.compile(PATTERN.encode())


def parse_method(raw: bytes) -> str:
    """Read the method of a request line.

    Raises:
        MalformedHeadError: an app might take it for another one.
    """
    if _FORM.fullmatch(raw) is None:
        raise MalformedHeadError("a method that is not upper-case letters, digits, '-' and '_'")
    return raw.decode("ascii")
