"""`process_*` metrics as Prometheus' client libraries name them, added up over all processes of the service."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat from the third on, proc_pid_stat(5).
_UTIME, _STIME, _CUTIME, _CSTIME, _STARTTIME, _VSIZE, _RSS = 11, 12, 13, 14, 19, 20, 21


def collect(pids: Iterable[int], proc: Path = _PROC) -> Iterator[Metric]:
    """Read what the kernel knows of this process and of others.

    Args:
        pids: of the processes that serve; this one is read in any case.
    """
    ticks, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    own = os.getpid()
    cpu_ticks = resident_pages = virtual_bytes = open_fds = max_fds = 0
    started_ticks: list[int] = []
    for pid in {own, *pids}:
        try:
            stat = [int(text) for text in (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1:]]
            open_fds += _open_fds(proc / str(pid) / "fd")
            max_fds += resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
        except (OSError, ValueError):
            continue  # a worker that has just ended
        stat.insert(0, 0)  # the state, a letter
        cpu_ticks += stat[_UTIME] + stat[_STIME]
        if pid == own:
            cpu_ticks += stat[_CUTIME] + stat[_CSTIME]  # of workers that have ended: a counter never falls
        started_ticks.append(stat[_STARTTIME])
        virtual_bytes += stat[_VSIZE]
        resident_pages += stat[_RSS]
    if not started_ticks:
        return  # no /proc
    started_s = _boot_time_s(proc) + min(started_ticks) / ticks
    yield CounterMetricFamily("process_cpu_seconds", "CPU time, user and system.", value=cpu_ticks / ticks)
    yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", value=resident_pages * page_bytes)
    yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory.", value=virtual_bytes)
    yield GaugeMetricFamily("process_open_fds", "Open file descriptors.", value=open_fds)
    yield GaugeMetricFamily("process_max_fds", "File descriptors that may be open.", value=max_fds)
    yield GaugeMetricFamily("process_start_time_seconds", "Start, since the epoch.", value=started_s)


def _open_fds(directory: Path) -> int:
    # Since Linux 6.2 the size is their number; to list ten thousand takes 10 ms.
    return directory.stat().st_size or len(os.listdir(directory))  # noqa: PTH208 - only how many


@cache
def _boot_time_s(proc: Path) -> float:
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
