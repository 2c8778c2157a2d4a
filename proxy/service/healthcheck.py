"""The probe of `healthcheck`. It imports little, because an engine starts it every few seconds."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Final

from proxy.settings import Address

_OK: Final = 200
_MAX_BODY_BYTES: Final = 4096


def probe(address: Address, path: str, timeout_s: float) -> tuple[bool, str]:
    """Send a probe to an admin listener.

    Args:
        address: as given to `serve --admin`; all interfaces mean this host.

    Returns:
        Whether it answered 200, and one line to print.
    """
    connection = connection_to(address, timeout_s)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        response = connection.getresponse()
        body = response.read(_MAX_BODY_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"{path} on {address}: {reason_of(error)}"
    finally:
        connection.close()
    return response.status == _OK, f"{path}: {response.status} {' '.join(body.split())}"


def reason_of(error: Exception) -> str:
    """Say in one line why no answer came; the operating system's words without its number."""
    words = error.strerror if isinstance(error, OSError) else None
    return " ".join((words or str(error)).split()) or type(error).__name__


def connection_to(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    """Return a connection to an admin listener, as given to `serve --admin`; all interfaces mean this host."""
    if address.path is not None:
        return UnixConnection(address.path, timeout_s)
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - to ask
    return http.client.HTTPConnection(host, address.port, timeout=timeout_s)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
