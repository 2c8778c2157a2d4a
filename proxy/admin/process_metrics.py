"""`process_*` metrics as Prometheus' client libraries name them, added up over all processes of the service."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_PROC: Final = Path("/proc")


def collect(pids: Iterable[int], proc: Path = _PROC) -> Iterator[Metric]:
    """Read the kernel's figures of this process and the given ones.

    Args:
        pids: of the processes that serve; this one, their supervisor or one of them, is counted in any case.
    """
    own = os.getpid()
    used = [
        usage
        for pid in sorted({own, *pids})
        if (usage := _usage(pid, proc, with_ended_children=pid == own)) is not None
    ]
    if not used:
        return  # no /proc
    ticks_per_s, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu_s = sum(usage.cpu_ticks for usage in used) / ticks_per_s
    resident = sum(usage.resident_pages for usage in used) * page_bytes
    virtual = sum(usage.virtual_bytes for usage in used)
    started_s = _boot_time_s(proc) + min(usage.started_ticks for usage in used) / ticks_per_s
    open_fds, max_fds = sum(usage.open_fds for usage in used), sum(usage.max_fds for usage in used)
    yield CounterMetricFamily("process_cpu_seconds", "CPU time, user and system.", value=cpu_s)
    yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", value=resident)
    yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory.", value=virtual)
    yield GaugeMetricFamily("process_open_fds", "File descriptors that are open.", value=open_fds)
    yield GaugeMetricFamily("process_max_fds", "File descriptors that may be open.", value=max_fds)
    yield GaugeMetricFamily("process_start_time_seconds", "Start, since the epoch.", value=started_s)


class _Usage(NamedTuple):
    cpu_ticks: int
    started_ticks: int
    virtual_bytes: int
    resident_pages: int
    open_fds: int
    max_fds: int


def _usage(pid: int, proc: Path, *, with_ended_children: bool) -> _Usage | None:
    """Read one process; `None` when it has just ended.

    Args:
        with_ended_children: count their CPU time too, so that the sum does not fall when a worker ends.
    """
    directory = proc / str(pid)
    try:
        # What follows the command in its parentheses: field 3 of proc_pid_stat(5) and those after it.
        stat = (directory / "stat").read_text().rpartition(")")[2].split()
        open_fds = _number_in(directory / "fd")
        max_fds, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except OSError:
        return None
    return _Usage(
        cpu_ticks=sum(map(int, stat[11 : 15 if with_ended_children else 13])),
        started_ticks=int(stat[19]),
        virtual_bytes=int(stat[20]),
        resident_pages=int(stat[21]),
        open_fds=open_fds,
        max_fds=max_fds,
    )


def _number_in(directory: Path) -> int:
    # Since Linux 6.2 the directory's size is that number; listing ten thousand descriptors takes 10 ms.
    return directory.stat().st_size or len(os.listdir(directory))  # noqa: PTH208 - only their number


@cache
def _boot_time_s(proc: Path) -> float:
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
