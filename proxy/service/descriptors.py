"""The limit of open files: raised as far as allowed, and `--max-connections` lowered to what it permits."""

from __future__ import annotations

import contextlib
import logging
import resource
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.settings import Settings

_PER_CLIENT: Final = 2  # one connection to the client, one to the app
# For the admin listener, listening sockets, files, channels to workers and idle connections to the app.
_RESERVE: Final = 128

_log = logging.getLogger(__name__)


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard limit and return it; child processes inherit it.

    The soft limit is low because of programs that use select(2); this one uses epoll.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # more than the system has at all
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def fit_connections(settings: Settings, limit: int) -> Settings:
    """Lower `max_connections` if descriptors would run out first: then nobody could even get a 503.

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
