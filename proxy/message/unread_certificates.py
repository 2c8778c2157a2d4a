"""Keeps the import of aiohttp from reading all certificates of the system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FILE: Final = "SSL_CERT_FILE"


@contextmanager
def unread_certificates() -> Iterator[None]:
    """Show OpenSSL an empty file of certificates within the block; use it before any thread runs.

    Any import from aiohttp makes the TLS context of its client, which reads them: 30 ms of each start and 2 MiB of
    each process. The proxy never uses that client over TLS: `gateway.dialing` makes its own context.
    """
    chosen = os.environ.get(_FILE)
    os.environ[_FILE] = os.devnull
    try:
        yield
    finally:
        del os.environ[_FILE]
        if chosen is not None:
            os.environ[_FILE] = chosen
