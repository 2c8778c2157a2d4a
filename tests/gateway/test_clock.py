"""The worker's clock: it ticks while it is started, and what it says is that of the last tick."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate, parsedate_to_datetime

import pytest

from proxy.gateway import clock as module
from proxy.gateway.clock import Clock


class Timers:
    """A loop whose timers go off when the test says so."""

    def __init__(self):
        self.pending: list[Timer] = []

    def call_later(self, delay_s, callback):
        timer = Timer(self, delay_s, callback)
        self.pending.append(timer)
        return timer

    def fire(self):
        timer = self.pending.pop(0)
        timer.callback()


class Timer:
    def __init__(self, timers, delay_s, callback):
        self.timers, self.delay_s, self.callback = timers, delay_s, callback

    def cancel(self):
        self.timers.pending.remove(self)


@pytest.fixture
def times(monkeypatch):
    """What the system's clocks say, for the test to move on."""
    now = {"monotonic": 100.0, "wall": 784_111_777.0}
    monkeypatch.setattr(module.time, "monotonic", lambda: now["monotonic"])
    monkeypatch.setattr(module, "formatdate", lambda *, usegmt: formatdate(now["wall"], usegmt=usegmt))
    return now


def test_it_says_the_time_before_it_is_started(times):
    clock = Clock(Timers(), lambda: None)
    assert (clock.now_s, clock.date) == (100.0, b"Sun, 06 Nov 1994 08:49:37 GMT")


def test_each_tick_reads_the_time_before_it_tells_of_it(times):
    """Who sweeps by it must not compare with a tick ago."""
    timers, seen = Timers(), []
    clock = Clock(timers, lambda: seen.append((clock.now_s, clock.date[-12:-4])))
    clock.start()
    for _ in range(3):
        times["monotonic"] += 0.5
        times["wall"] += 0.5
        timers.fire()
    assert seen == [(100.5, b"08:49:37"), (101.0, b"08:49:38"), (101.5, b"08:49:38")]


def test_time_stands_still_between_ticks(times):
    clock = Clock(Timers(), lambda: None)
    clock.start()
    times["monotonic"] += 10
    assert clock.now_s == 100.0


def test_starting_reads_the_time_again(times):
    clock = Clock(Timers(), lambda: None)
    times["monotonic"] += 10
    clock.start()
    assert clock.now_s == 110.0


def test_one_timer_is_pending_while_it_runs_and_none_after_it_was_stopped(times):
    timers = Timers()
    clock = Clock(timers, lambda: None)
    clock.start()
    timers.fire()
    timers.fire()
    assert [timer.delay_s for timer in timers.pending] == [module.TICK_S]
    clock.stop()
    assert timers.pending == []
    clock.stop()


def test_tick_whose_sweep_fails_is_not_the_last_one(times):
    """Else one mistake would end all time-outs of the worker."""
    timers = Timers()
    clock = Clock(timers, lambda: 1 / 0)
    clock.start()
    with pytest.raises(ZeroDivisionError):
        timers.fire()
    assert len(timers.pending) == 1


def test_sweep_may_stop_the_clock(times):
    timers = Timers()
    clock = Clock(timers, lambda: clock.stop())  # noqa: PLW0108 - it is not there yet
    clock.start()
    timers.fire()
    assert timers.pending == []


async def test_it_ticks_on_a_real_loop_and_says_real_times(monkeypatch):
    monkeypatch.setattr(module, "TICK_S", 0.001)
    ticks = asyncio.Event()
    clock = Clock(asyncio.get_running_loop(), ticks.set)
    clock.start()
    await asyncio.wait_for(ticks.wait(), 5)
    clock.stop()
    assert clock.now_s <= time.monotonic()
    assert parsedate_to_datetime(clock.date.decode()).timestamp() <= time.time()
