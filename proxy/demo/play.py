"""`nocache-proxy demo`: the same three XHRs without the proxy and with it, told to a person."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import aiohttp

from proxy.demo import audits, report
from proxy.demo.browser import Browser
from proxy.demo.scene import Scene
from proxy.demo.stage import Stage, StageError, set_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEW = "/file/last_uploaded"
_UPLOADS = ("spring.txt", "summer.txt", "autumn.txt")
_LOG_TIMEOUT_S = 5
_POLL_INTERVAL_S = 0.02


def run(*, keep: bool = False, output: TextIO | None = None) -> int:
    """Show the bug and the cure.

    Args:
        keep: leave the app and the proxy running until Ctrl-C and print their addresses.
        output: where to tell the story; standard output if absent.

    Returns:
        0 if both the stale answers without the proxy and the fresh ones with it were seen, else 1.
    """
    try:
        return asyncio.run(_main(output or sys.stdout, keep=keep))
    except StageError as error:
        print(f"nocache-proxy demo: {error}", file=sys.stderr)
    except (aiohttp.ClientError, TimeoutError) as error:
        print(f"nocache-proxy demo: no answer: {str(error) or type(error).__name__}", file=sys.stderr)
    except _InterruptedError:
        print("nocache-proxy demo: interrupted", file=sys.stderr)
    return 1


class _InterruptedError(Exception):
    """A signal came before the end of the story."""


async def _main(output: TextIO, *, keep: bool) -> int:
    with _cancelled_by_signals():
        try:
            return await _tell(output, keep=keep)
        except asyncio.CancelledError:
            raise _InterruptedError from None


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Cancel the current task at the first SIGINT or SIGTERM; further ones do not disturb its cleaning up."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if not task.cancelling():
            task.cancel()

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _tell(output: TextIO, *, keep: bool) -> int:
    def say(text: str) -> None:
        print(text, file=output, flush=True)

    async with set_stage() as stage:
        say(report.opening(stage))
        without = await _play(stage.app)
        say(report.scene("Without the proxy", without))
        behind = await _play(stage.proxy)
        say(report.scene("Behind the proxy", behind))
        say(report.fields(without.answers[0].response, behind.answers[0].response))
        asked = sum(not answer.is_from_cache for answer in behind.answers)
        say(report.access_log(await _logged(stage, asked)))
        say(report.verdict(without, behind))
        alone, cured = audits.of_app(VIEW, without.given), await audits.of_proxy(VIEW, stage.admin)
        say(report.audit(VIEW, alone, cured))
        if keep:
            say(report.addresses(stage))
            await _until_interrupted(stage)
    is_audited = (alone["verdict"], cured["verdict"]) == ("stale", "protected")
    return 0 if without.shows_bug and behind.shows_cure and is_audited else 1


async def _play(site: str) -> Scene:
    answers, given = [], []
    async with Browser(site) as browser:
        for name in _UPLOADS:
            await browser.upload("/file/upload", name, f"{name}\n".encode())
            answers.append(await browser.get(VIEW))
            given.append((time.time(), await browser.ask_app(VIEW)))
    return Scene(site, _UPLOADS, tuple(answers), tuple(given))


async def _logged(stage: Stage, count: int) -> list[str]:
    """Return the access log's last `count` lines about the view; waits for them, as the log is buffered."""
    lines: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOG_TIMEOUT_S):
            while len(lines) < count:
                await asyncio.sleep(_POLL_INTERVAL_S)
                if stage.access_log.exists():
                    lines = [line for line in stage.access_log.read_text().splitlines() if VIEW in line]
    return lines[-count:]


async def _until_interrupted(stage: Stage) -> None:
    try:
        name = await stage.first_exit()
    except asyncio.CancelledError:
        return  # Ctrl-C is how it ends
    raise StageError(f"{name} ended by itself")
