"""Asks a running proxy for its audit, for the command line."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from proxy.audit.report_call import ReportError
from proxy.service.healthcheck import connection_to, reason_of
from proxy.settings import Address

_TIMEOUT_S: Final = 90.0  # the proxy may need a minute to make the report
_OK: Final = 200


def fetch_report(admin: Address) -> dict[str, Any]:
    """Return the report of `/api/audit`.

    Args:
        admin: the admin listener, as given to `serve --admin`.

    Raises:
        ReportError: it does not answer, or has no report.
    """
    connection = connection_to(admin, _TIMEOUT_S)
    try:
        connection.request("GET", "/api/audit", headers={"Host": "localhost"})
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ReportError(f"{admin}: {reason_of(error)}") from error
    finally:
        connection.close()
    if response.status != _OK or not isinstance(body, dict) or "routes" not in body:
        said = body.get("error") if isinstance(body, dict) else None
        raise ReportError(f"{admin}: {said or f'status {response.status}'}")
    return body
