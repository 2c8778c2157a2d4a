"""Watching holds nothing up: neither a file system that hangs, nor a linter that takes long, nor a mistake of either."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.rules.loading.loader import Mistake
from proxy.rules.tools import lint
from proxy.service import rules_source, rules_watcher
from proxy.service.rules_source import RulesSource
from proxy.service.rules_watcher import RulesWatcher
from tests.support.peer import XHR
from tests.support.serving import Sidecar, sidecar
from tests.support.waiting import until

GOOD = "version: 1\nrules: [{name: %s, match: {paths: [/a]}}]\n"


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD % "first")
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(rules_source, "_STILL_S", 0.0)
    monkeypatch.setattr(rules_watcher, "_WATCH_S", 0.001)
    monkeypatch.setattr(rules_watcher, "PATIENCE_S", 0.05)


@asynccontextmanager
async def watching(path: Path):
    """A watcher at work, its source, and the names of rules that it has put in force."""
    source, used = RulesSource(path), []
    watcher = RulesWatcher(source, lambda: used.append([rule.name for rule in source.rules_file.rules]))
    task = asyncio.create_task(watcher.run())
    yield watcher, source, used
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Hanging:
    """A function that does not return before it is let."""

    def __init__(self, function):
        self._function = function
        self.was_called = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self, *arguments):
        self.was_called.set()
        self.goes_on.wait()
        return self._function(*arguments)


@pytest.mark.parametrize("function", ["_stat", "_read"])
async def test_file_system_that_hangs_is_told_and_its_answer_is_taken_when_it_comes(
    path, monkeypatch, caplog, function
):
    async with watching(path) as (_, source, used):
        hanging = Hanging(getattr(rules_source, function))
        monkeypatch.setattr(rules_source, function, hanging)
        path.write_text(GOOD % "second")
        await until(hanging.was_called.is_set)
        await until(lambda: not source.status.last_reload_ok)
        assert source.status.last_error == f"{path}: its file system has not answered for 10 s"
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        hanging.goes_on.set()
        await until(lambda: used == [["second"]])
        assert source.status.last_reload_ok


async def test_file_system_that_hangs_without_a_change_is_no_failure_any_more_when_it_answers(
    path, monkeypatch
):
    async with watching(path) as (_, source, _used):
        hanging = Hanging(rules_source._stat)
        monkeypatch.setattr(rules_source, "_stat", hanging)
        await until(lambda: not source.status.last_reload_ok)
        hanging.goes_on.set()
        await until(lambda: source.status.last_reload_ok)


async def test_end_does_not_wait_for_a_file_system_that_hangs(path, monkeypatch):
    async with watching(path):
        hanging = Hanging(rules_source._stat)
        monkeypatch.setattr(rules_source, "_stat", hanging)
        await until(hanging.was_called.is_set)
    hanging.goes_on.set()


def test_start_does_not_wait_for_a_file_system_that_hangs(path, monkeypatch):
    hanging = Hanging(rules_source._read)
    monkeypatch.setattr(rules_source, "_read", hanging)
    monkeypatch.setattr(rules_source, "PATIENCE_S", 0.01)
    with pytest.raises(rules_source.RulesError, match="its file system has not answered"):
        RulesSource(path)
    hanging.goes_on.set()


async def test_file_that_becomes_a_fifo_is_refused_and_holds_nothing_up(path, caplog):
    async with watching(path) as (_, source, used):
        path.unlink()
        os.mkfifo(path)
        await until(lambda: "found a named pipe" in source.status.last_error)
        path.unlink()
        path.write_text(GOOD % "second")
        await until(lambda: used == [["second"]])


async def test_signal_reloads_what_looks_unchanged(path):
    async with watching(path) as (watcher, source, used):
        watcher.reload()
        await until(lambda: used == [["first"]])
        assert source.status.reloads == 1


async def test_mistake_while_rules_are_put_in_force_is_told_and_they_are_tried_again(
    path, monkeypatch, caplog
):
    """It ended the watching without a word: no change and no signal had any effect from then on."""
    monkeypatch.setattr(rules_watcher, "_MISTAKE_PAUSE_S", 0.001)
    monkeypatch.setattr(rules_source, "_READ_ANYWAY_S", 0.0)
    failures = [RuntimeError("broken")]
    used = []

    def use_rules():
        if failures:
            raise failures.pop()
        used.append([rule.name for rule in source.rules_file.rules])

    source = RulesSource(path)
    task = asyncio.create_task(RulesWatcher(source, use_rules).run())
    path.write_text(GOOD % "second")
    await until(lambda: used == [["second"]])
    assert source.status.failed_reloads == 1
    assert source.status.last_reload_ok
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "watching the rules failed; it goes on"
    ]
    task.cancel()


async def test_rules_that_could_not_be_put_in_force_are_not_told_to_be(path, monkeypatch):
    """The page, the probe and new workers had them, and requests those before."""
    monkeypatch.setattr(rules_watcher, "_MISTAKE_PAUSE_S", 0.001)
    source = RulesSource(path)
    before = source.data, source.rules_file, source.status.digest
    tried = asyncio.Event()

    def use_rules():
        tried.set()
        raise RuntimeError("broken")

    task = asyncio.create_task(RulesWatcher(source, use_rules).run())
    path.write_text(GOOD % "second")
    await tried.wait()
    await until(lambda: not source.status.last_reload_ok)
    assert (source.data, source.rules_file, source.status.digest) == before
    assert source.status.failed_reloads == 1
    task.cancel()


class Steps:
    """A linter that takes its time over each of the files that it is given.

    Attributes:
        begun: names of the first rules of the files, as their linting begins; `given_up` likewise.
        may_end: one more file may be done.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.given_up: list[str] = []
        self.may_end = threading.Event()

    def __call__(self, rules_file):
        name = rules_file.rules[0].name
        self.begun.append(name)
        try:
            yield [Mistake(1, 1, "", f"{name} is doubtful", source="r")]
            while not self.may_end.wait(0.001):
                yield []
        except GeneratorExit:
            self.given_up.append(name)
            raise


async def test_reload_does_not_wait_for_the_linter_and_ends_it(path, monkeypatch, caplog):
    steps = Steps()
    monkeypatch.setattr(lint, "steps", steps)
    async with watching(path) as (_, _source, used):
        await until(lambda: steps.begun == ["first"])
        path.write_text(GOOD % "second")
        await until(lambda: used == [["second"]])
        await until(lambda: steps.begun == ["first", "second"])
        assert steps.given_up == ["first"]
        steps.may_end.set()
        await until(lambda: "second is doubtful" in caplog.text)
    assert "first is doubtful" not in caplog.text


async def test_end_ends_the_linter(path, monkeypatch, caplog):
    steps = Steps()
    monkeypatch.setattr(lint, "steps", steps)
    async with watching(path):
        await until(lambda: steps.begun == ["first"])
    await until(lambda: steps.given_up == ["first"])
    assert "doubtful" not in caplog.text


async def test_mistake_of_the_linter_is_logged_and_ends_nothing(path, monkeypatch, caplog):
    def broken(_rules_file):
        raise RuntimeError("broken")

    monkeypatch.setattr(lint, "steps", broken)
    async with watching(path) as (_, _source, used):
        await until(lambda: caplog.records)
        path.write_text(GOOD % "second")
        await until(lambda: used == [["second"]])
    assert caplog.records[0].exc_info
    assert caplog.records[0].getMessage() == "the rules could not be linted"


@pytest.mark.alone
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_rules_that_take_long_to_lint_hold_up_neither_the_next_ones_nor_the_end(app, tmp_path, workers):
    """600 rules on one path made a reload wait 9 to 23 s, and SIGTERM 8 to 16 s."""
    rules = tmp_path / "rules.yaml"
    rule = "  - {name: r%d, match: {paths: ['/a/**'], headers: {X-Field-%d: '*a%d*'}}}\n"
    text = "version: 1\nrules:\n" + "".join(rule % (number, number, number) for number in range(600))
    rules.write_text(text)
    async with sidecar(app.url, rules, "--workers", workers) as running:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        rules.write_text(f"{text}  - {{name: ajax, match: {{x_requested_with: XMLHttpRequest}}}}\n")
        await running.log.matching("rules reloaded from .*; added ajax")
        await until(lambda: is_protected(running))
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
        assert loop.time() - began_s < 6


async def is_protected(running: Sidecar) -> bool:
    return (await running.get("/", XHR)).is_protected
