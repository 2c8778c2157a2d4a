"""The head of the app's own response, for `explain --live`: asked for once, without reading its content."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.message.fields import Field

_TIMEOUT_S: Final = 10.0


class LiveError(ValueError):
    """The app could not be asked; its text says why."""


def fetch_head(url: str, method: str, target: str, fields: Sequence[Field]) -> tuple[int, list[Field]]:
    """Send one request to the app and return the status and fields of its response.

    Args:
        url: `http://host:port` or `https://host:port`.
        target: the request target as a client sends it.

    Raises:
        LiveError: the URL is none, or the app does not answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LiveError(f"found {url!r}, allowed: http://HOST:PORT or https://HOST:PORT")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    has_host = any(name.lower() == b"host" for name, _ in fields)
    try:
        connection.putrequest(method, target, skip_host=has_host, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        got = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.getheaders()]
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LiveError(f"{url}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    return response.status, got
