"""What a peer has said before its connection ended, and the event loop has not read: it is read past the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable
from typing import Final

_READ_BYTES: Final = 64 * 1024

Receive = Callable[[bytes], bool]
"""Takes what was read, or nothing; tells whether somebody listens to more."""


def read_what_the_socket_holds(transport: asyncio.Transport, receive: Receive) -> None:
    """Read what a peer said before it ended a connection that could not be written to any more.

    An app that answers an upload early and leaves the rest of it unread closes with a reset. uvloop meets the reset in a
    write and reads no further, but the answer is there. EOF proves nothing here: the kernel reports a reset only once.
    """
    if transport.get_extra_info("ssl_object") is not None:
        return
    descriptor = transport.get_extra_info("socket").fileno()
    with contextlib.suppress(OSError):
        data = b""
        while receive(data) and (data := os.read(descriptor, _READ_BYTES)):
            pass


def read_what_tls_holds(transport: asyncio.Transport, receive: Receive) -> bool:
    """Read what was left when a peer ended a TLS connection whose reading is paused.

    Without TLS uvloop waits with that end; with TLS it does not, and passes nothing on any more.

    Returns:
        Whether the peer has ended it by its own word, `close_notify`.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return False
    try:
        data = b""
        while receive(data) and (data := tls.read(_READ_BYTES)):
            pass
    except ssl.SSLZeroReturnError:
        pass
    except ssl.SSLError:
        return False
    return True
