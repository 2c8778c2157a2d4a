"""Request methods, RFC 9110 section 9: which are forwarded, and what is known of them."""

from __future__ import annotations

import re
from typing import Final

from proxy.message.errors import MalformedHeadError

# IANA's registry of HTTP methods, UPnP's four (`M-SEARCH` and what follows), and the `PURGE` of caches.
_NAMES: Final = (
    "ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY "
    "MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY "
    "REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL "
    "M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE"
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
