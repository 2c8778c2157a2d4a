"""The probe of `healthcheck`: the standard library alone, as it starts anew every few seconds."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Final

_OK: Final = 200
_MAX_BODY_BYTES: Final = 4096


def probe(address: str, path: str, timeout_s: float) -> tuple[bool, str]:
    """Ask an admin listener.

    Args:
        address: `host:port` or `unix:PATH`, as given to `serve --admin`; 0.0.0.0 means this host.

    Returns:
        Whether it answered 200, and one line to print.
    """
    connection = _connection(address, timeout_s)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        response = connection.getresponse()
        body = response.read(_MAX_BODY_BYTES).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"{path} on {address}: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    return response.status == _OK, f"{path}: {response.status} {body}".rstrip()


def _connection(address: str, timeout_s: float) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return _UnixConnection(Path(address.removeprefix("unix:")), timeout_s)
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where to ask
    return http.client.HTTPConnection(host, int(port) if port.isdigit() else None, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
