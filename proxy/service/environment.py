"""Warns of environment variables that look like settings but are none: a misspelt one would be silently ignored."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable
from typing import Final

_PREFIX: Final = "NOCACHE_PROXY_"
# Kubernetes and Docker set such variables in every container if a service is called nocache-proxy.
_OF_A_SERVICE: Final = re.compile(rf"{_PREFIX}(SERVICE_(HOST|PORT(_.*)?)|PORT(_.*)?|NAME|ENV_.*)")

_log = logging.getLogger(__name__)


def warn_of_unknown(names: Iterable[str], known: Collection[str]) -> None:
    """Log a warning for each variable with our prefix that no flag reads, and suggest the nearest known one."""
    settings = [name.removeprefix(_PREFIX) for name in known]
    for name in sorted(names):
        if not name.startswith(_PREFIX) or name in known or _OF_A_SERVICE.fullmatch(name):
            continue
        nearest = difflib.get_close_matches(name.removeprefix(_PREFIX), settings, n=1)
        _log.warning("%s is no setting%s", name, f"; did you mean {_PREFIX}{nearest[0]}?" if nearest else "")
