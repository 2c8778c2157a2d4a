"""Schemes that authenticate a connection instead of a request: NTLM, and Negotiate where it carries it (RFC 4559).

HTTP is stateless, and a connection may be lent to anybody (RFC 9110 section 3.3). These schemes break that, and apps on
Windows intranets rely on it: whoever gets an authenticated connection is taken for the user who authenticated it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_SCHEME: Final = re.compile(rb"(?:^|,)[ \t]*(?:ntlm|negotiate)(?=[ \t,]|$)", re.IGNORECASE)


def authenticates_connection(values: Sequence[tuple[int, bytes]]) -> bool:
    """Tell whether one of the lines of `Authorization` or `WWW-Authenticate` names such a scheme.

    Args:
        values: as they are noted: (place, value) of each line.
    """
    return any(_SCHEME.search(value) is not None for _, value in values)
