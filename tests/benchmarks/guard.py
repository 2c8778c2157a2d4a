"""What a request costs, counted instead of timed, so that the figure is the same on every machine.

A fixed scenario runs in-process through the gateway's own protocols, over transports that only remember what
is written. Counted are the bytecodes that the interpreter executes and the C functions they call. Time would
need a quiet machine, hardware counters are missing in most virtual ones, and allocations miss most of what
can get slower. Bytecodes differ between versions of Python, so they are set in relation to a fixed piece of
Python, in the same interpreter. What gets slower inside one C call is not seen: `python -m
tests.benchmarks.guard --instructions` counts machine instructions under valgrind, 50 times slower, for use
while optimising.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.gateway.access_log import AccessLog
from proxy.gateway.server import Gateway
from proxy.gateway.upstream import UpstreamConnection
from proxy.rules.loading import loader
from proxy.settings import Settings, Upstream
from proxy.stats import Stats
from tests.benchmarks import messages, upstream, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.rules.engine.matching import Ruleset

RULES: Final = Path(__file__).parents[2] / "config" / "rules.yaml"
WARM_UP: Final = 64  # the access log renders so many lines at a time
COUNTED: Final = 64


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request, on average.

    Attributes:
        references: bytecodes executed, in units of those of `reference`.
        calls: C functions called.
    """

    references: float
    calls: float


BOUNDS: Final = {
    "json": Cost(references=0.602, calls=110),
    "distinct": Cost(references=0.662, calls=124),
    "pieces": Cost(references=2.35, calls=461),
}
"""What a request of a workload may cost. Whoever makes it cheaper lowers the bound: a test keeps it tight."""


class Transport:
    """A transport that remembers the last write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))

    def writelines(self, data: list[bytes]) -> None:
        self.written.extend(map(bytes, data))

    def take(self) -> bytes:
        """Return what was written since, and forget it."""
        data = b"".join(self.written)
        self.written.clear()
        return data

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 8080)}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class _Loop:
    """Stands for a loop whose turns the scenario ends by itself."""

    def call_soon(self, _callback: Callable[[], None]) -> None: ...


class Scenario:
    """One client connection and one upstream connection, with the gateway between them.

    Args:
        request: what the client sends, again and again.
        ruleset: the shipped rules unless given.
    """

    def __init__(self, request: workloads.Request, ruleset: Ruleset | None = None) -> None:
        self.loop = _Loop()
        settings = Settings(upstream=Upstream.parse("http://127.0.0.1:8000"))
        self.access_log = AccessLog("json", Path(os.devnull))
        ruleset = ruleset or loader.load(RULES).ruleset
        self.gateway = Gateway(settings, ruleset, Stats(), self.access_log, self.loop)  # type: ignore[arg-type]
        self.to_client, self.to_upstream = Transport(), Transport()
        self.client, self.upstream = (
            self.gateway._protocol(),
            UpstreamConnection(self.gateway.context, self.gateway.pool),
        )
        self.client.connection_made(self.to_client)  # type: ignore[arg-type]
        self.upstream.connection_made(self.to_upstream)  # type: ignore[arg-type]
        self.gateway.pool.put(self.upstream)
        self.requests = workloads.requests(request)
        self.pieces = {
            "pieces": [upstream.STREAM_HEAD, *[upstream.STREAM_PIECE] * messages.PIECES, upstream.STREAM_END],
            "upload-1m": [upstream.RECEIVED],
        }.get(request, [upstream.SMALL])

    def run(self, count: int) -> None:
        """Exchange so many requests and responses."""
        client, server = self.client.data_received, self.upstream.data_received
        flush = self.gateway.context.outbox.flush
        for _ in range(count):
            client(next(self.requests))
            flush()
            for piece in self.pieces:
                server(piece)
                flush()
            self.to_upstream.written.clear()
            self.to_client.written.clear()

    def exchange(self) -> tuple[bytes, bytes]:
        """Do one exchange; return what upstream and client got."""
        self.client.data_received(next(self.requests))
        self.gateway.context.outbox.flush()
        for piece in self.pieces:
            self.upstream.data_received(piece)
        self.gateway.context.outbox.flush()
        return self.to_upstream.take(), self.to_client.take()

    def close(self) -> None:
        self.access_log.close()


def cost(scenario: Scenario) -> Cost:
    """Count what a request costs after the first ones, which fill tables."""
    scenario.run(WARM_UP)
    bytecodes, calls = count(lambda: scenario.run(COUNTED))
    unit, _ = count(reference)
    return Cost(bytecodes / COUNTED / unit, calls / COUNTED)


def reference() -> None:
    """Parse and render a head in plain Python, bytecodes mixed as in a gateway. The unit: never change it."""
    head = messages.request(b"GET /reference", messages.COOKIE, messages.SCRIPT_FIELD)
    for _ in range(10):
        lines: list[bytes] = []
        fields: dict[bytes, list[bytes]] = {}
        for line in head.split(b"\r\n")[1:-2]:
            name, _, value = line.partition(b":")
            key = name.lower()
            if key in fields:
                fields[key].append(value.strip())
            else:
                fields[key] = [value.strip()]
            if key != b"connection":
                lines.append(name + b":" + value)
        assert len(b"\r\n".join(lines)) > len(fields)


def count(work: Callable[[], None]) -> tuple[int, int]:
    """Return how many bytecodes a piece of work executes, and how many C functions it calls."""
    bytecodes = calls = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal bytecodes
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            bytecodes += 1
        return trace

    def profile(_frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "c_call"

    gc.disable()  # what a collection runs is not the work's doing
    traced, profiled = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(traced)
        sys.setprofile(profile)
        try:
            work()
        finally:
            sys.setprofile(profiled)
    finally:
        gc.enable()
    return bytecodes, calls


def instructions(name: str, first: int = 100, more: int = 400) -> float:
    """Count machine instructions of one request under valgrind: the difference of two runs."""
    totals = []
    for requests in (first, first + more):
        command = [
            "valgrind",
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
            sys.executable,
        ]
        done = subprocess.run(
            [*command, "-m", "tests.benchmarks.guard", "--run", name, str(requests)],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
        assert found is not None, done.stderr[-500:]
        totals.append(int(found[1].replace(",", "")))
    return (totals[1] - totals[0]) / more


def main(arguments: list[str]) -> None:
    """Print what requests cost."""
    if arguments[:1] == ["--run"]:
        gc.freeze()
        Scenario(workloads.BY_NAME[arguments[1]].request).run(int(arguments[2]))
        return
    if arguments == ["--instructions"] and shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    unit, _ = count(reference)
    print(f"the reference is {unit} bytecodes, Python {sys.version.split()[0]}")
    for name, bound in BOUNDS.items():
        scenario = Scenario(workloads.BY_NAME[name].request)
        of_one = cost(scenario)
        scenario.close()
        line = (
            f"{name:10} {of_one.references:.3f} references (bound {bound.references}, "
            f"{of_one.references * unit:,.0f} bytecodes), {of_one.calls:.0f} C calls (bound {bound.calls})"
        )
        if arguments == ["--instructions"]:
            line += f", {instructions(name):9,.0f} instructions"
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
