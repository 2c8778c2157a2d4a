"""`process_*`: what the kernel says of all processes of the service together."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.admin import process_metrics
from tests.admin.standing import RULES
from tests.support.serving import App, sidecar
from tests.support.waiting import until

PROC = Path("/proc")
NAMES = {
    "process_cpu_seconds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def collected(*pids: int, proc: Path = PROC) -> dict[str, float]:
    return {
        family.name: sample.value
        for family in process_metrics.collect(pids, proc)
        for sample in family.samples
    }


@pytest.fixture
def child():
    """A process that does nothing."""
    with subprocess.Popen(["sleep", "60"]) as process:
        while Path(f"/proc/{process.pid}/statm").read_text().split()[1] == "0":
            time.sleep(0.001)  # it is not yet loaded
        yield process.pid
        process.kill()


@pytest.fixture
def proc(tmp_path):
    """A /proc in which this process, and a child of process 1's number, are what a test writes."""

    def write(pid: int, **told: int) -> None:
        directory = tmp_path / str(pid)
        (directory / "fd").mkdir(parents=True)
        for number in range(told.get("fds", 0)):
            (directory / "fd" / str(number)).touch()
        rest = ["0"] * 50  # field 3 of proc_pid_stat(5) and those after it
        rest[0] = "S"
        for place, name in ((11, "utime"), (12, "stime"), (13, "cutime"), (14, "cstime"), (19, "starttime")):
            rest[place] = str(told.get(name, 0))
        rest[20], rest[21] = str(told.get("vsize", 0)), str(told.get("rss", 0))
        (directory / "stat").write_text(f"{pid} (a) b) (c) " + " ".join(rest) + "\n")

    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1700000000\nprocesses 9\n")
    write.at = tmp_path
    return write


def test_they_agree_with_what_python_knows():
    before = resource.getrusage(resource.RUSAGE_SELF)
    got = collected()
    after = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert set(got) == NAMES
    tick_s = 2 / TICKS_PER_S
    least = before.ru_utime + before.ru_stime - 2 * tick_s
    most = after.ru_utime + after.ru_stime + ended.ru_utime + ended.ru_stime + 2 * tick_s
    assert least <= got["process_cpu_seconds"] <= most
    assert 0 < got["process_resident_memory_bytes"] <= after.ru_maxrss * 1024 * 1.01
    assert got["process_virtual_memory_bytes"] >= got["process_resident_memory_bytes"]
    assert got["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert time.time() - 24 * 3600 < got["process_start_time_seconds"] <= time.time() + 1


def test_every_open_file_counts():
    before = collected()["process_open_fds"]
    with ExitStack() as files:
        for _ in range(20):
            files.enter_context(open(os.devnull, "rb"))
        assert collected()["process_open_fds"] == before + 20


def test_processes_are_added_up_each_once_and_the_oldest_tells_the_start(child):
    alone, both = collected(), collected(child, child, os.getpid())
    assert both["process_max_fds"] == 2 * alone["process_max_fds"]
    assert both["process_resident_memory_bytes"] > alone["process_resident_memory_bytes"]
    assert both["process_open_fds"] > alone["process_open_fds"]
    assert both["process_start_time_seconds"] == alone["process_start_time_seconds"]


def test_a_process_that_has_just_ended_is_left_out():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert collected(process.pid)["process_max_fds"] == collected()["process_max_fds"]


def test_numbers_come_from_their_fields_whatever_the_command_is_called(proc, child):
    own = os.getpid()
    proc(own, utime=100, stime=20, cutime=3, cstime=4, starttime=900, vsize=5000, rss=7, fds=3)
    proc(child, utime=1000, stime=200, cutime=30, cstime=40, starttime=500, vsize=600, rss=8, fds=4)
    got = collected(child, proc=proc.at)
    # A worker's own ended children are not the service's; those of the supervisor are its workers of before.
    assert got["process_cpu_seconds"] == (100 + 20 + 3 + 4 + 1000 + 200) / TICKS_PER_S
    assert got["process_start_time_seconds"] == 1_700_000_000 + 500 / TICKS_PER_S
    assert got["process_virtual_memory_bytes"] == 5600
    assert got["process_resident_memory_bytes"] == 15 * PAGE_BYTES


def test_descriptors_are_counted_one_by_one_where_the_kernel_does_not_tell_their_number(proc, monkeypatch):
    """Before Linux 6.2 the directory's size is 0."""
    proc(os.getpid(), fds=11)

    class NoSize:
        st_size = 0

    stat = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **options: NoSize() if path.name == "fd" else stat(path, **options)
    )
    assert collected(proc=proc.at)["process_open_fds"] == 11


def test_where_there_is_no_proc_nothing_is_told(tmp_path):
    assert collected(proc=tmp_path) == {}


async def test_cpu_time_does_not_fall_when_a_worker_is_replaced(tmp_path):
    """A counter that falls looks like a restart: the supervisor counts its ended children."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    async with App().running() as app, sidecar(app.url, rules, "--workers", "2") as running:
        await until(running.is_ready)
        before = await running.metrics()
        victim = running.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        await running.log.matching("worker . ended")
        after = await running.metrics()
        assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]
        assert after["process_start_time_seconds"] == before["process_start_time_seconds"]
        await until(lambda: three_processes(running, before["process_max_fds"]))


async def three_processes(running, max_fds: float) -> bool:
    return (await running.metrics())["process_max_fds"] == max_fds
