"""A mistake of this program in a callback of the event loop is logged, counted and answered for; nothing else suffers."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import proxy
from proxy.audit import evidence
from proxy.audit.collector import Collector
from proxy.audit.observation import Observation
from proxy.audit.permission import Permission
from proxy.gateway.audit_feed import AuditFeed
from proxy.rules.engine.matching import Ruleset
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from tests.gateway.fakes import Log, Loop, Surroundings, broken
from tests.support.gateway import make_gateway

PACKAGE = Path(proxy.__file__).parent
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Which argument of a call is called by the event loop, or by what ticks on it.
REGISTERS = {
    "call_soon": 0,
    "call_soon_threadsafe": 0,
    "call_later": 1,
    "call_at": 1,
    "add_done_callback": 0,
    "add_reader": 1,
    "add_writer": 1,
    "add_signal_handler": 1,
    "Clock": 1,
    "create_task": 0,
    "ensure_future": 0,
}
# By the event loop, and by the worker as it sweeps and drains.
CALLED_FROM_OUTSIDE = {
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "get_buffer",
    "buffer_updated",
    "timed_out",
    "drain",
    "drain_tunnel",
    "give_up",
}

# What is registered and has no guard of its own, and why that is well.
NEEDS_NONE = {
    "clock._tick": "reads the time and calls what `Clock` was given, which is registered here too",
    "pool._attempt_ended": "looks at what a task ended with, which is the guard of that task",
    "pool.coroutine": "a task; `_attempt_ended` looks at how it ended",
    "serve.act": "a variable: `_end` and `reload` set an event, `reopen_log` is `AccessLog`'s, or writes to channels",
    "worker_process.set": "of an event",
    "worker_process.wait": "of an event",
    "serve.wait": "of an event",
    "recent.forget": "clears what is kept",
    "serve._drain_in_time": "awaited by `_drain`",
}


def is_guarded(function: FUNCTION) -> bool:
    """Whether it is decorated, or has the same written out."""
    if any(isinstance(each, ast.Name) and each.id == "guarded" for each in function.decorator_list):
        return True
    handlers = [each for each in ast.walk(function) if isinstance(each, ast.ExceptHandler)]
    return any(isinstance(each.type, ast.Name) and each.type.id == "Exception" for each in handlers)


def name_of(node: ast.expr) -> str:
    """Return the last part of a name; of a call, that of what is called."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else "?"


def functions_of(tree: ast.AST) -> Iterator[FUNCTION]:
    yield from (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


def unguarded(package: Path) -> Iterator[str]:
    """Give what the event loop calls in a package and has no guard, as `module.function`."""
    trees = {file.stem: ast.parse(file.read_bytes()) for file in package.glob("*.py")}
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (place := REGISTERS.get(name_of(node.func))) is not None:
                callback = node.args[place]
                is_own = ast.unparse(callback).startswith("self.") and ast.unparse(callback).count(".") == 1
                named = [
                    (where, function)
                    for where, other in trees.items()
                    for function in functions_of(other)
                    if function.name == name_of(callback)
                ]
                meant = [function for where, function in named if (where == module) == is_own]
                meant = meant or [function for _, function in named]
                if not meant or not all(map(is_guarded, meant)):
                    yield f"{module}.{name_of(callback)}"
            elif isinstance(node, ast.ClassDef) and {"asyncio.Protocol", "asyncio.BufferedProtocol"} & {
                ast.unparse(base) for base in node.bases
            }:
                for function in functions_of(node):
                    if function.name in CALLED_FROM_OUTSIDE and not is_guarded(function):
                        yield f"{module}.{function.name}"


def test_whatever_the_event_loop_calls_is_guarded():
    found = {*unguarded(PACKAGE / "gateway"), *unguarded(PACKAGE / "service")}
    assert found == set(NEEDS_NONE)


async def test_step_of_a_tick_that_fails_keeps_no_other_from_being_done(monkeypatch, caplog):
    """The log was not written any more, and nobody was told."""
    flushed = []
    monkeypatch.setattr(Log, "flush", lambda _log: flushed.append(1))
    gateway = make_gateway()
    gateway.context.recorder.access_log = Log()
    monkeypatch.setattr(gateway.pool, "sweep", broken)
    gateway._sweep()
    gateway._sweep()
    assert flushed == [1, 1]
    assert gateway.stats.proxy_errors == {"internal_error": 2}
    assert [record.getMessage() for record in caplog.records] == ["a tick failed"] * 2
    assert all(record.exc_info for record in caplog.records)


class Later(Loop):
    """Runs what is called later at once, after what is running."""

    def call_later(self, _delay_s: float, callback: Callable[[], object]) -> Any:
        self.call_soon(callback)


@pytest.mark.interpreted
def test_answer_on_which_the_audit_fails_is_lost_alone_and_told_once_a_minute(monkeypatch, caplog):
    """All that waited behind it was given up, and each failure was a traceback in the log."""
    around = Surroundings()
    loop, collector = Later(), Collector(b"secret")
    feed = AuditFeed(collector, Ruleset(), loop, around.context.recorder)
    permission_of = evidence.permission_of

    def failing(seen: Observation) -> Permission:
        if seen.target.startswith(b"/bad"):
            raise RuntimeError("broken")
        return permission_of(seen)

    monkeypatch.setattr(evidence, "permission_of", failing)
    now_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    for target in (b"/bad1", b"/a", b"/b", b"/bad2", b"/c"):
        collector.take(1.0, "GET", b"app", target, 200, [], [], 1, 1)
    feed.tick(1.0)
    loop.run()
    assert {route[1] for route, _ in collector.evidence.routes.items()} >= {"a", "b", "c"}
    assert around.stats.proxy_errors == {"internal_error": 2}
    now_s += 60
    collector.take(1.0, "GET", b"app", b"/bad3", 200, [], [], 1, 1)
    feed.tick(2.0)
    loop.run()
    assert around.stats.proxy_errors == {"internal_error": 3}
    assert [record.getMessage() for record in caplog.records] == ["the audit failed"] * 2


@pytest.mark.interpreted
def test_new_rules_that_fail_half_way_are_not_in_force_by_halves(monkeypatch):
    """Requests were decided by the new rules, but their fields were read for the old ones."""
    around = Surroundings()
    context = around.context
    old, new = context.ruleset, Ruleset([Rule("new", STRICT)])
    context.audit = AuditFeed(Collector(b"secret"), old, around.loop, context.recorder)
    with monkeypatch.context() as broken_for_now:
        broken_for_now.setattr(Collector, "use_rules", broken)
        with pytest.raises(RuntimeError):
            context.ruleset = new
    assert context.ruleset is old
    context.ruleset = new
    assert context.ruleset is new
