"""A log whose reader stalls, or is not there, holds up neither start nor requests, probes, reloads or the end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import sys

import pytest

from tests.support.serving import ROOT, Sidecar, serve_command
from tests.support.waiting import until

LONG = "/" + "x" * 1500


@pytest.fixture(params=["1", "2"])
def workers(request):
    return request.param


@pytest.fixture
async def start(app, rules, tmp_path):
    """Run `serve` on Unix sockets, with standard streams of the test's choice."""
    processes: list[asyncio.subprocess.Process] = []

    async def run(*flags: str, stdout: int, stderr: int) -> Sidecar:
        listen, admin = tmp_path / "listen", tmp_path / "admin"
        words = serve_command(app.url, rules, f"--listen=unix:{listen}", f"--admin=unix:{admin}", *flags)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "proxy", *words, "--access-log", "json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=ROOT,
        )
        processes.append(process)
        running = Sidecar(process, listen=listen, admin=admin)

        async def is_there() -> bool:
            assert process.returncode is None
            return admin.exists() and listen.exists()

        await until(is_there)
        await until(running.is_ready)
        return running

    yield run
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


def small_pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing


async def assert_serves_and_ends(running: Sidecar) -> None:
    for _ in range(60):  # more than any pipe or terminal here takes
        assert (await running.get(LONG)).status == 200
    assert (await running.ask("/readyz"))["ready"]
    running.send(signal.SIGTERM)
    assert await running.ended() == 0


@pytest.mark.parametrize("name", ["", "/dev/stdout", "/proc/self/fd/1"])
async def test_standard_output_that_nobody_reads(start, workers, name):
    reading, writing = small_pipe()
    flags = ["--access-log-file", name] if name else []
    running = await start("--workers", workers, *flags, stdout=writing, stderr=asyncio.subprocess.DEVNULL)
    os.close(writing)
    await assert_serves_and_ends(running)
    os.close(reading)


async def test_fifo_without_a_reader(start, workers, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    running = await start(
        *("--workers", workers, "--access-log-file", str(tmp_path / "fifo")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await assert_serves_and_ends(running)


async def test_terminal_that_is_stopped(start, workers):
    theirs, ours = pty.openpty()
    running = await start("--workers", workers, stdout=ours, stderr=ours)
    os.close(ours)
    await assert_serves_and_ends(running)
    os.close(theirs)


async def test_standard_error_that_nobody_reads(start, workers, rules):
    reading, writing = small_pipe()
    running = await start("--workers", workers, stdout=asyncio.subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    for number in range(40):
        rules.write_text(f"version: {number}0\n")
        running.send(signal.SIGHUP)

        async def has_failed(number: int = number) -> bool:
            return (await running.metrics())['nocache_proxy_rules_reloads_total{result="failure"}'] > number

        await until(has_failed)
    await assert_serves_and_ends(running)
    os.close(reading)
