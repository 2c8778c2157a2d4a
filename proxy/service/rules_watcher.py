"""Watches the rules file: applies new content, then lints it in the background. Never blocks the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from proxy.rules.loading.diagnostics import Mistake
from proxy.rules.loading.loader import RulesFile
from proxy.service.background import Background
from proxy.service.rules_source import PATIENCE_S, RulesSource, mount_that_never_changes

T = TypeVar("T")

_log = logging.getLogger(__name__)

_WATCH_S: Final = 0.1  # between two looks, which cost some 50 us each
_MISTAKE_PAUSE_S: Final = 5.0  # after a mistake of this program, which the next look may repeat
_MAX_WARNINGS: Final = 20  # a thousand would bury the line about listening


class RulesWatcher:
    """Watches the file until `run` is cancelled.

    Args:
        source: is told to look and to reload, in a thread.
        use_rules: puts what the source holds in force.
    """

    def __init__(self, source: RulesSource, use_rules: Callable[[], None]) -> None:
        self._source = source
        self._use_rules = use_rules
        self._told_to_reload = asyncio.Event()
        self._linter = _Linter()

    def reload(self) -> None:
        """Read the file again, even if it looks unchanged."""
        self._told_to_reload.set()

    async def run(self) -> None:
        """Watch."""
        try:
            self._linter.begin(self._source.rules_file)
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH_S):
                        await self._told_to_reload.wait()
                try:
                    await self._look()
                except Exception as error:  # noqa: BLE001 - a mistake of this program must not end the watching
                    self._source.failed_by_itself(error)
                    await asyncio.sleep(_MISTAKE_PAUSE_S)
        finally:
            self._linter.stop()

    async def _look(self) -> None:
        source = self._source
        before = source.data, source.rules_file, source.status
        if await self._has_new_rules():
            try:
                self._use_rules()
            except Exception:  # what is told to be in force must be what is
                source.data, source.rules_file, source.status = before
                raise
            self._linter.begin(self._source.rules_file)

    async def _has_new_rules(self) -> bool:
        data = None
        if self._told_to_reload.is_set():
            self._told_to_reload.clear()
            _log.info("SIGHUP: reloading the rules")
        elif (data := await self._in_time(self._source.has_changed)) is None:
            return False
        self._linter.stop()  # its warnings would be about the previous rules
        return await self._in_time(self._source.reload, data)

    async def _in_time(self, function: Callable[..., T], *arguments: object) -> T:
        """Call in the source's thread. If that takes too long, report it and keep waiting."""
        calling = asyncio.wrap_future(self._source.background.call(function, *arguments))
        done, _ = await asyncio.wait({calling}, timeout=PATIENCE_S)
        if not done:
            self._source.is_late()
        return await calling


class _Linter:
    """Lints in a thread: only the newest file."""

    def __init__(self) -> None:
        self._background = Background("lint")
        self._is_stopped = threading.Event()

    def begin(self, rules_file: RulesFile) -> None:
        """Stop the current lint and start this one."""
        self.stop()
        self._is_stopped = threading.Event()
        self._background.call(_warn, rules_file, self._is_stopped)

    def stop(self) -> None:
        """Stop the current lint without logging its warnings."""
        self._is_stopped.set()


def _warn(rules_file: RulesFile, is_stopped: threading.Event) -> None:
    """Log the lint warnings of valid rules."""
    from proxy.rules.tools.lint import steps  # noqa: PLC0415 - in a thread that requests do not wait for

    found: set[Mistake] = set()
    try:
        for mistakes in steps(rules_file):
            if is_stopped.is_set():
                return
            found.update(mistakes)
    except Exception:  # noqa: BLE001 - a mistake of ours: the rules are in force
        _log.exception("the rules could not be linted")
        return
    for warning in _to_tell(sorted(found), rules_file.source):
        _log.warning("%s", warning)


def _to_tell(warnings: list[Mistake], source: str) -> Iterator[str]:
    yield from map(str, warnings[:_MAX_WARNINGS])
    if len(warnings) > _MAX_WARNINGS:
        yield f"{len(warnings) - _MAX_WARNINGS} more warnings: nocache-proxy check {source}"
    if mount_that_never_changes(Path(source)):
        yield (
            f"{source} is itself a mount (a subPath, or a single bind-mounted file) and will not show changes; "
            "mount its directory instead"
        )
