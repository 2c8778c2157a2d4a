"""The command: what to measure, how long, and where to write what came of it."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from tests.benchmarks import chart, measure, peers, processes, report, workloads

RESULTS: Final = Path(__file__).parent / "results"


class Names(click.ParamType):
    """A comma-separated list of known names."""

    name = "names"

    def __init__(self, known: list[str]) -> None:
        self.known = known

    def convert(
        self, value: str | list[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        names = value if isinstance(value, list) else value.split(",")
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is none of {', '.join(self.known)}", param, ctx)
        return names


@click.command(help=__doc__)
@click.option("--list", "lists", is_flag=True, help="Print peers and workloads, and end.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 60),
    default=3.0,
    show_default=True,
    help="Length of one measurement.",
)
@click.option(
    "--warm-up", type=click.FloatRange(0, 60), default=1.0, show_default=True, help="Seconds before it."
)
@click.option(
    "--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="Medians are over these."
)
@click.option(
    "--peers",
    "peer_names",
    type=Names(list(peers.BY_NAME)),
    default=",".join(peers.BY_NAME),
    help="Comma-separated; default: all.",
)
@click.option(
    "--workloads",
    "workload_names",
    type=Names(list(workloads.BY_NAME)),
    default=",".join(workloads.BY_NAME),
    help="Comma-separated; default: all.",
)
@click.option(
    "--idle-connections",
    type=click.IntRange(0, 8000),
    default=5000,
    show_default=True,
    help="Whose memory is measured; 0: none.",
)
@click.option("--cores", help="Comma-separated, the proxy's first; default: the last ones of this machine.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="Directory of benchmark.json, .md and .svg.",
)
@click.option(
    "--readme",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose benchmark section is replaced.",
)
def main(
    *,
    lists: bool,
    seconds: float,
    warm_up: float,
    rounds: int,
    peer_names: list[str],
    workload_names: list[str],
    idle_connections: int,
    cores: str | None,
    output: Path,
    readme: Path | None,
) -> None:
    if lists:
        _list()
        return
    # SIGTERM unwinds like Ctrl-C, so that every child is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    idle_connections = min(idle_connections, processes.raise_file_limit() // 2 - 500)
    with tempfile.TemporaryDirectory(prefix="nocache-proxy-benchmark-") as directory:
        plan = measure.Plan(
            peers=[peers.BY_NAME[name] for name in peer_names if not _is_missing(name)],
            workloads=[workloads.BY_NAME[name] for name in workload_names],
            rounds=rounds,
            seconds=seconds,
            warm_up_s=warm_up,
            idle_connections=max(idle_connections, 0),
            cores=[int(core) for core in cores.split(",")] if cores else _last_cores(),
            directory=Path(directory),
        )
        samples = measure.measure(plan, _say)
    described = report.Described(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=_machine(),
        rounds=rounds,
        seconds=seconds,
        idle_connections=plan.idle_connections,
        titles={peer.name: peer.title for peer in plan.peers},
        versions={peer.name: peer.version() for peer in plan.peers},
    )
    output.mkdir(parents=True, exist_ok=True)
    raw = {
        "date": described.date,
        "machine": described.machine,
        "versions": described.versions,
        "samples": measure.raw(samples),
    }
    (output / "benchmark.json").write_text(json.dumps(raw, indent=1) + "\n")
    (output / "benchmark.svg").write_text(chart.render(described.titles, samples))
    markdown = report.render(described, samples)
    (output / "benchmark.md").write_text(markdown)
    if readme:
        picture = os.path.relpath(output / "benchmark.svg", readme.parent)
        readme.write_text(report.inserted(readme.read_text(), markdown, picture))
    print(markdown)
    mistakes = [f"{name}: {mistake}" for name, of_peer in samples.items() for mistake in of_peer.mistakes]
    if mistakes:
        sys.exit("\n".join(["Something went wrong:", *mistakes]))


def _list() -> None:
    print("peers:")
    for peer in peers.PEERS:
        print(f"  {peer.name:20} {peer.title}")
    print("workloads:")
    for workload in workloads.WORKLOADS:
        print(f"  {workload.name:20} {workload.title}{' (own only)' if workload.only_own else ''}")


def _is_missing(name: str) -> bool:
    reason = peers.BY_NAME[name].missing()
    if reason:
        _say(f"{peers.BY_NAME[name].title} left out: {reason}")
    return bool(reason)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _last_cores() -> list[int]:
    """Return up to four cores; the last ones, since the first serve most of a machine's interrupts."""
    return sorted(os.sched_getaffinity(0), reverse=True)[:4]


def _machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"


if __name__ == "__main__":
    main()
