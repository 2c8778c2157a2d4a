"""Open files: as many as the system lets the process have, and no more clients than those are enough for."""

from __future__ import annotations

import contextlib
import logging
import resource
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.settings import Settings

_PER_CLIENT: Final = 2  # its connection, and the one to the app
# The admin listener's connections, listening sockets, files, pipes to workers, and connections to the app at rest.
_RESERVE: Final = 128

_log = logging.getLogger(__name__)


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one, also for the processes that this one starts; return it.

    The soft limit is low for the sake of programs that use select(2), which this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # more than the system has at all
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def fit_connections(settings: Settings, limit: int) -> Settings:
    """Lower `max_connections` where descriptors would run out first: then a client would get no answer at all.

    Args:
        settings: as given.
        limit: of open files, of each worker.
    """
    if limit == resource.RLIM_INFINITY or limit >= _PER_CLIENT * settings.max_connections + _RESERVE:
        return settings
    fitting = max((limit - _RESERVE) // _PER_CLIENT, 1)
    _log.warning(
        "--max-connections %d needs %d open files, the limit is %d: at most %d connections are taken; "
        "raise the limit (ulimit -Hn, LimitNOFILE=, --ulimit nofile=) or lower --max-connections",
        settings.max_connections,
        _PER_CLIENT * settings.max_connections + _RESERVE,
        limit,
        fitting,
    )
    return replace(settings, max_connections=fitting)
