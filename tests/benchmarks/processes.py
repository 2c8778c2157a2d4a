"""Children of the benchmark: pinned to a core, measured through /proc, and always ended by their own id."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG: Final = 1
STOP_TIMEOUT_S: Final = 5.0
IDLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Cores:
    """Where everything runs: the proxy has its cores for itself, load and upstream share the others."""

    proxy: frozenset[int]
    load: frozenset[int]
    upstream: frozenset[int]


def divide(available: Sequence[int], proxy_cores: int = 1) -> Cores:
    """Give the proxy `proxy_cores` cores, and load and upstream one other.

    Only where the proxy gets two (the comparison of workers) do load and upstream get one each, if there is
    a fourth.
    """
    if len(available) < 2:
        return Cores(frozenset(available), frozenset(available), frozenset(available))
    count = min(proxy_cores, len(available) - 1)
    proxy, rest = available[:count], available[count:]
    upstream = rest[1] if count > 1 and len(rest) > 1 else rest[0]
    return Cores(frozenset(proxy), frozenset(rest[:1]), frozenset([upstream]))


@contextlib.contextmanager
def running(
    command: Sequence[str],
    cores: frozenset[int],
    output: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child on the given cores, its output in a file, and end it and all its descendants afterwards."""

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        # Should the benchmark itself be killed, its children end too: all of them handle SIGTERM.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with output.open("ab") as file:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            preexec_fn=prepare,  # noqa: PLW1509 - no threads here
            start_new_session=True,
        )
    try:
        yield child
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a child to end; after STOP_TIMEOUT_S kill whatever is left of its tree, each by its id."""
    started = {pid: _start_time(pid) for pid in tree(child.pid)}
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(STOP_TIMEOUT_S)
    for pid, start_time in started.items():
        # The start time tells a descendant from a stranger that got the same id.
        if start_time is not None and _start_time(pid) == start_time:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    child.wait()


def tree(root: int) -> list[int]:
    """Return a process and all its living descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                waiting.extend(map(int, task.read_text().split()))
    return found


def cpu_time_s(root: int) -> float:
    """Sum user and system time of a process tree."""
    return sum(_cpu_ticks(pid) for pid in tree(root)) * TICK_S


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process tree: rss counts a page shared by two of its processes twice, pss by share."""

    rss_bytes: int
    pss_bytes: int


def memory(root: int) -> Memory:
    """Return what a process tree holds now."""
    rss = pss = 0
    for pid in tree(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
            elif line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
    return Memory(rss, pss)


def first_response_s(
    child: subprocess.Popen[bytes], port: int, started: float, timeout_s: float = 30.0
) -> float:
    """Wait until a child answers 200 on its port; return the seconds since `started` (perf_counter)."""
    request = b"GET /api/ready HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n"
    while time.perf_counter() - started < timeout_s:
        if child.poll() is not None:
            raise RuntimeError(f"ended with status {child.returncode} before its first response")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5.0) as connection:
            connection.sendall(request)
            if connection.recv(4096).startswith(b"HTTP/1.1 200"):
                return time.perf_counter() - started
        time.sleep(0.002)
    raise RuntimeError(f"no response within {timeout_s:.0f} s")


def wait_until_idle(pid: int, timeout_s: float = 30.0) -> None:
    """Wait until a process and those below it have used next to no CPU for half a second; give up in silence."""
    deadline_s = time.perf_counter() + timeout_s
    used_s = cpu_time_s(pid)
    while time.perf_counter() < deadline_s:
        time.sleep(IDLE_S)
        before_s, used_s = used_s, cpu_time_s(pid)
        if used_s - before_s <= 2 * TICK_S:
            return


def raise_file_limit() -> int:
    """Raise the limit of open files to the hard limit, for this process and its children; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _start_time(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on; None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
