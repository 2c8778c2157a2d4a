"""Several workers, each a process with a gateway: started, watched, restarted, asked and drained together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy.gateway.access_log import AccessLog
from proxy.gateway.worker import Gateway
from proxy.service.channel import Channel, Drain, Report, Start, UseRules
from proxy.service.sockets import bind, remove
from proxy.settings import Address
from proxy.stats import Snapshot, Stats, merge

if TYPE_CHECKING:
    from proxy.service.rules_source import RulesSource
    from proxy.settings import Settings

_log = logging.getLogger(__name__)

_ANSWER_S: Final = 2.0  # a worker that does not answer by then is left out of the sum
_RESTART_PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # after so many short lives in a row
_SHORT_LIFE_S: Final = 10.0
_LAST_WORDS_S: Final = 3.0


@dataclass(slots=True)
class _Worker:
    """A place for a worker; its socket outlives the process, so that what waits in it is served by the next."""

    number: int
    listening: socket.socket
    process: asyncio.subprocess.Process | None = None
    channel: Channel | None = None
    is_serving: bool = False
    reports: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Processes:
    """The supervisor of `--workers` processes that share the port (SO_REUSEPORT).

    Raises:
        ListenError: the address cannot be listened on.
    """

    def __init__(self, settings: Settings, source: RulesSource) -> None:
        self._settings = settings
        self._source = source
        sockets = _shared_sockets(settings)
        self._workers = [_Worker(number, listening) for number, listening in enumerate(sockets)]
        self._lives: list[asyncio.Task[None]] = []
        self._is_ending = False
        self._aborted = 0
        self._past = Stats().snapshot()  # of workers that have ended: a counter never falls
        self._prober: Gateway

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        ruleset = self._source.rules_file.ruleset
        self._prober = Gateway(self._settings, ruleset, Stats(), AccessLog("off"), loop)
        self._lives = [loop.create_task(self._keep_alive(worker)) for worker in self._workers]

    def use_rules(self) -> None:
        for worker in self._workers:
            if worker.channel is not None:
                worker.channel.send(UseRules(self._source.data))

    async def snapshot(self) -> Snapshot:
        answers = await asyncio.gather(*(self._ask(worker) for worker in self._workers))
        return merge([self._past, *(answer for answer in answers if answer is not None)])

    async def probe_upstream(self) -> str | None:
        return await self._prober.probe_upstream()

    def reasons_not_ready(self) -> list[str]:
        serving = sum(worker.is_serving for worker in self._workers)
        return [] if serving else ["no worker is serving"]

    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def reopen_log(self) -> None:
        for worker in self._workers:
            if worker.channel is not None:
                worker.channel.send("reopen-log")

    async def drain(self, timeout_s: float) -> int:
        self._is_ending = True
        for worker in self._workers:
            if worker.channel is not None:
                worker.channel.send(Drain(timeout_s))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s + _LAST_WORDS_S):
                await asyncio.gather(*self._lives)
        return self._aborted

    def close(self) -> None:
        self._is_ending = True
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                worker.process.kill()
            worker.listening.close()
        for life in self._lives:
            life.cancel()
        remove(self._settings.listen)

    async def _ask(self, worker: _Worker) -> Snapshot | None:
        if not worker.is_serving or worker.channel is None:
            return None
        async with worker.asking:
            worker.channel.send("snapshot")
            try:
                async with asyncio.timeout(_ANSWER_S):
                    report = await worker.reports.get()
            except TimeoutError:
                return None
        return report.snapshot

    async def _keep_alive(self, worker: _Worker) -> None:
        """Run one process after the other in a worker's place."""
        loop = asyncio.get_running_loop()
        short_lives = 0
        while True:
            began_s = loop.time()
            last = await self._live(worker)
            if self._is_ending:
                return
            short_lives = short_lives + 1 if loop.time() - began_s < _SHORT_LIFE_S else 0
            pause_s = _RESTART_PAUSES_S[min(short_lives, len(_RESTART_PAUSES_S)) - 1] if short_lives else 0.0
            _log.error("worker %d ended (%s); the next one starts in %gs", worker.number, last, pause_s)
            await asyncio.sleep(pause_s)

    async def _live(self, worker: _Worker) -> str:
        """Run one process until it ends; say how it did."""
        ours, theirs = socket.socketpair()
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "proxy.service.worker",
                str(theirs.fileno()),
                str(worker.listening.fileno()),
            ),
            pass_fds=(theirs.fileno(), worker.listening.fileno()),
        )
        theirs.close()
        worker.process = process
        worker.channel = await Channel.open(ours)
        worker.reports = asyncio.Queue()
        worker.channel.send(Start(self._settings, self._source.data))
        latest: Snapshot | None = None
        while isinstance(report := await worker.channel.receive(), Report):
            if report.kind == "serving":
                worker.is_serving = True
                # The rules may have changed while it started.
                worker.channel.send(UseRules(self._source.data))
            elif report.kind == "drained":
                self._aborted += report.aborted
            else:
                latest = report.snapshot
                worker.reports.put_nowait(report)
        worker.is_serving = False
        worker.channel = None
        if latest is not None:
            self._past = merge([self._past, _counters_of(latest)])
        code = await process.wait()
        worker.process = None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _counters_of(snapshot: Snapshot) -> Snapshot:
    """What stays counted of a worker that has ended: not its gauges."""
    gauges = ("in_flight", "client_connections", "upstream_connections", "tunnels")
    return {**snapshot, **dict.fromkeys(gauges, 0)}


def _shared_sockets(settings: Settings) -> list[socket.socket]:
    if settings.listen.path is not None:
        only = bind(settings.listen)  # a Unix socket is shared by its descriptor
        return [only, *(only.dup() for _ in range(settings.workers - 1))]
    first = bind(settings.listen, is_shared=True)
    settled = settings.listen if settings.listen.port else _with_port(settings, first)
    return [first, *(bind(settled, is_shared=True) for _ in range(settings.workers - 1))]


def _with_port(settings: Settings, bound: socket.socket) -> Address:
    return Address(settings.listen.host, bound.getsockname()[1])
