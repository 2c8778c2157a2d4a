"""Puts every workload to all peers in turn, round after round, and gathers what `load` and /proc say about them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks import load, messages, peers, processes, workloads
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.benchmarks.peers import Peer
    from tests.benchmarks.workloads import Workload

OUTPUT_TAIL_BYTES: Final = 600
RULES: Final = "rules-"
WORKERS: Final = "workers-"
TURNS_OF_RULES: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, what and where."""

    peers: Sequence[Peer]
    workloads: Sequence[Workload]
    rounds: int
    seconds: float
    warm_up_s: float
    idle_connections: int
    cores: Sequence[int]
    directory: Path


@dataclass(slots=True)
class Samples:
    """What all rounds measured of one peer; `workloads` by name, one entry a round, of rules three."""

    workloads: dict[str, list[load.Figures]] = field(default_factory=dict)
    start_s: list[float] = field(default_factory=list)
    idle_memory: list[processes.Memory] = field(default_factory=list)
    connection_bytes: list[float] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    def each(self, workload: str, value: Callable[[load.Figures], float]) -> list[float]:
        """Return a figure of each round; none when the workload was not measured."""
        return [value(figures) for figures in self.workloads.get(workload, ())]


def measure(plan: Plan, say: Callable[[str], None]) -> dict[str, Samples]:
    """Measure every peer in every round; return samples by the peer's name."""
    samples = {peer.name: Samples() for peer in plan.peers}
    steps = _Steps(plan, say)
    cores = processes.divide(plan.cores)
    for number in range(1, plan.rounds + 1):
        done = functools.partial(steps.done, number)
        with _upstream(cores, plan.directory) as upstream:
            stage = _Stage(plan, cores, upstream, done)
            _measure_side_by_side(stage, samples)
            for peer in plan.peers if plan.idle_connections else ():
                with _noting(samples[peer.name], peer, done):
                    _measure_idle_connections(stage, peer, samples[peer.name])
        if peers.OWN in plan.peers:
            own = samples[peers.OWN.name]
            with _noting(own, peers.OWN, done):
                _measure_rules(plan, own, done)
            for workload in plan.workloads:
                if workload.name.startswith(WORKERS):
                    with _noting(own, peers.OWN, done):
                        _measure_workers(plan, workload, own, done)
    return samples


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where proxies are measured within a round, and who is told."""

    plan: Plan
    cores: processes.Cores
    upstream: _Running
    done: Callable[[str], None]


def _measure_side_by_side(stage: _Stage, samples: dict[str, Samples]) -> None:
    """Put two workloads to one peer right after the other: what slows the machine down slows all of them.

    Two, as the first two are compared with each other as well.
    """
    common = [workload for workload in stage.plan.workloads if not workload.only_own]
    with contextlib.ExitStack() as stack:
        running: dict[str, _Running] = {}
        for peer in stage.plan.peers:
            with _noting(samples[peer.name], peer, stage.done):
                proxy = running[peer.name] = stack.enter_context(_proxy(stage, peer))
                samples[peer.name].start_s.append(proxy.start_s)
                samples[peer.name].idle_memory.append(processes.memory(proxy.pid))
        for first in range(0, len(common), 2):
            for peer, workload in itertools.product(stage.plan.peers, common[first : first + 2]):
                if peer.name in running:
                    with _noting(samples[peer.name], peer, stage.done):
                        _run(stage, peer, running[peer.name], workload, samples[peer.name])


def _measure_idle_connections(stage: _Stage, peer: Peer, samples: Samples) -> None:
    with _proxy(stage, peer) as proxy:
        samples.start_s.append(proxy.start_s)
        samples.connection_bytes.append(_connection_bytes(stage, proxy))
    each_kib = samples.connection_bytes[-1] / messages.KIB
    stage.done(f"{peer.title:18} {stage.plan.idle_connections} idle connections: {each_kib:.1f} KiB each")


@contextlib.contextmanager
def _noting(samples: Samples, peer: Peer, done: Callable[[str], None]) -> Iterator[None]:
    """Note what goes wrong with a peer, and go on."""
    try:
        yield
    except (RuntimeError, subprocess.SubprocessError) as error:
        samples.mistakes.append(str(error))
        done(f"{peer.title}: {error}")


def _measure_rules(plan: Plan, samples: Samples, done: Callable[[str], None]) -> None:
    """Measure our proxy with few rules and with many, in turn: what is compared differs by a twentieth at most."""
    chosen = [workload for workload in plan.workloads if workload.name.startswith(RULES)]
    cores = processes.divide(plan.cores)
    with contextlib.ExitStack() as stack:
        stage = _Stage(plan, cores, stack.enter_context(_upstream(cores, plan.directory)), done)
        running: dict[str, _Running] = {}
        for count in dict.fromkeys(workload.name.split("-")[1] for workload in chosen):
            rules = plan.directory / f"rules-{count}.yaml"
            rules.write_text(workloads.rules_file(int(count)))
            running[count] = stack.enter_context(_proxy(stage, peers.OWN, rules))
        for _, workload in itertools.product(range(TURNS_OF_RULES), chosen):
            _run(stage, peers.OWN, running[workload.name.split("-")[1]], workload, samples)


def _measure_workers(plan: Plan, workload: Workload, samples: Samples, done: Callable[[str], None]) -> None:
    """Measure our proxy with as many workers as a workload's name asks for."""
    workers = int(workload.name.removeprefix(WORKERS))
    # Load and upstream have the same cores for one worker as for two.
    cores = processes.divide(plan.cores, 2)
    cores = dataclasses.replace(cores, proxy=frozenset(sorted(cores.proxy)[:workers]))
    with _upstream(cores, plan.directory) as upstream:
        stage = _Stage(plan, cores, upstream, done)
        with _proxy(stage, peers.OWN, workers=workers) as proxy:
            _run(stage, peers.OWN, proxy, workload, samples)


def _run(stage: _Stage, peer: Peer, proxy: _Running, workload: Workload, samples: Samples) -> None:
    job = load.Job(
        proxy.port,
        workload.request,
        workload.connections,
        workload.rate_per_s,
        stage.plan.warm_up_s,
        stage.plan.seconds,
        proxy.pid,
        stage.upstream.pid,
    )
    figures = _load(job, stage.cores)
    # Else the next proxy on this core shares it with what is left to answer.
    processes.wait_until_idle(proxy.pid)
    if figures.mistake:
        samples.mistakes.append(f"{workload.name}: {figures.mistake}")
        stage.done(f"{peer.title:18} {workload.name:20} WRONG: {figures.mistake}")
        return
    samples.workloads.setdefault(workload.name, []).append(figures)
    stage.done(
        f"{peer.title:18} {workload.name:20} {figures.requests / figures.seconds:9,.0f} req/s  "
        f"{figures.proxy_cpu_s / figures.requests * 1e6:8.1f} us CPU/request "
        f"({figures.proxy_cpu_s / figures.seconds:4.0%} of a core; "
        f"load {figures.load_cpu_s / figures.requests * 1e6:.1f}, "
        f"upstream {figures.upstream_cpu_s / figures.requests * 1e6:.1f} us)  "
        f"p50 {figures.p50_s * 1e3:.2f} p99 {figures.p99_s * 1e3:.2f} ms"
    )


def _load(job: load.Job, cores: processes.Cores) -> load.Figures:
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cores.load)), sys.executable, "-m", "tests.benchmarks.load"],
        input=json.dumps(asdict(job)).encode(),
        capture_output=True,
        timeout=job.warm_up_s + job.seconds + load.LAST_ANSWERS_S + 60,
        cwd=peers.ROOT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode()[-OUTPUT_TAIL_BYTES:]}")
    return load.Figures(**json.loads(done.stdout))


def _connection_bytes(stage: _Stage, proxy: _Running) -> float:
    plan, cores = stage.plan, stage.cores
    before = processes.memory(proxy.pid)
    order = json.dumps({"hold": plan.idle_connections, "port": proxy.port}).encode() + b"\n"
    command = ["taskset", "-c", ",".join(map(str, cores.load)), sys.executable, "-m", "tests.benchmarks.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=peers.ROOT) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(order)
        holder.stdin.flush()
        try:
            if holder.stdout.readline() != b"held\n":
                raise RuntimeError("idle connections could not be opened")
            time.sleep(0.5)  # what was only needed while connecting is given back
            after = processes.memory(proxy.pid)
        finally:
            holder.stdin.close()
            try:
                holder.wait(30)
            except subprocess.TimeoutExpired:
                holder.kill()
    return (after.rss_bytes - before.rss_bytes) / plan.idle_connections


@dataclass(frozen=True, slots=True)
class _Running:
    pid: int
    port: int
    start_s: float


@contextlib.contextmanager
def _upstream(cores: processes.Cores, directory: Path) -> Iterator[_Running]:
    port = free_port()
    started = time.perf_counter()
    command = [sys.executable, "-m", "tests.benchmarks.upstream", str(port)]
    with processes.running(command, cores.upstream, directory / "upstream.log", cwd=peers.ROOT) as child:
        yield _Running(child.pid, port, processes.first_response_s(child, port, started))


@contextlib.contextmanager
def _proxy(stage: _Stage, peer: Peer, rules: Path | None = None, workers: int = 1) -> Iterator[_Running]:
    directory = stage.plan.directory
    ports = peers.Ports(free_port(), stage.upstream.port, free_port())
    if peer is peers.OWN:
        command = peers.own(ports, directory, rules, workers)
    else:
        command = list(peer.command(ports, directory))
    output = directory / f"{peer.name}.log"
    output.unlink(missing_ok=True)
    started = time.perf_counter()
    with processes.running(command, stage.cores.proxy, output, cwd=peers.ROOT) as child:
        try:
            start_s = processes.first_response_s(child, ports.listen, started)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {output.read_text()[-OUTPUT_TAIL_BYTES:]}") from error
        # Ours lints its rules when it serves already: of a thousand, for seconds.
        processes.wait_until_idle(child.pid)
        yield _Running(child.pid, ports.listen, start_s)


class _Steps:
    """Says what was measured, which step of how many that was, and how long the rest will take."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        common = sum(not workload.only_own for workload in plan.workloads) + bool(plan.idle_connections)
        own = 0
        if peers.OWN in plan.peers:
            names = [workload.name for workload in plan.workloads]
            own = TURNS_OF_RULES * sum(name.startswith(RULES) for name in names)
            own += sum(name.startswith(WORKERS) for name in names)
        self.total = plan.rounds * (common * len(plan.peers) + own)
        self.rounds = plan.rounds
        self.count = 0
        self.started = time.monotonic()
        self.say = say

    def done(self, number: int, text: str) -> None:
        self.count += 1
        left_s = (time.monotonic() - self.started) / self.count * max(self.total - self.count, 0)
        self.say(
            f"[{self.count:3}/{self.total}] round {number}/{self.rounds}, {left_s / 60:4.1f} min left  {text}"
        )


def raw(samples: dict[str, Samples]) -> dict[str, Any]:
    """Return every sample, JSON-able."""
    return {name: asdict(of_peer) for name, of_peer in samples.items()}
