"""The supervisor: starts worker processes, restarts those that die, collects their counters, drains them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy.gateway.access_log import AccessLog
from proxy.gateway.server import Gateway
from proxy.gateway.watch import WATCHED_S
from proxy.service.audit_reports import SECRET_BYTES, Frames
from proxy.service.channel import Channel, Drain, Question, Report, Start, UseRules
from proxy.service.runtime import start_process
from proxy.service.sockets import ListenError, Listening, bind
from proxy.settings import Address
from proxy.stats import GAUGES, Snapshot, Stats, merge

if TYPE_CHECKING:
    from proxy.service.rules_source import RulesSource
    from proxy.settings import Settings

_log = logging.getLogger(__name__)

_ANSWER_S: Final = 2.0  # then the worker's previous answer is used
_START_S: Final = (
    5.0  # how long the start waits for a first worker; after that, /readyz tells when one serves
)
_RESTART_PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # by the number of short lives in a row
_SHORT_LIFE_S: Final = 10.0
_PAST_WORKERS: Final = 8  # how many ended workers' audit evidence is kept, a few MB each at most
_LAST_WORDS_S: Final = 3.0


@dataclass(slots=True)
class _Worker:
    """A slot for a worker process.

    Attributes:
        listening: outlives the process, so that the connections that wait in it are served by the next one.
        has_served: this process has been ready to serve.
        latest: what the process counted, as of its last answer.
        evidence: of its audit, as of its last answer; it sends one every few seconds without being asked.
        resets: how often this process was told to forget its evidence.
        recent: the exchanges of its last answer.
        answered: by question; set when the answer comes, and when nobody waits for it any more.
    """

    number: int
    listening: Listening
    process: asyncio.subprocess.Process | None = None
    channel: Channel | None = None
    is_serving: bool = False
    has_served: bool = False
    latest: Snapshot | None = None
    evidence: Frames = ()
    resets: int = 0
    recent: Sequence[bytes] = ()
    answered: dict[Question, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))


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
        self._ending = asyncio.Event()
        self._one_serves = asyncio.Event()
        self._aborted = 0
        self._watched_until_s = 0.0
        self._audit_secret = secrets.token_bytes(SECRET_BYTES)
        self._past_evidence: deque[Frames] = deque(maxlen=_PAST_WORKERS)
        self._past = Stats().snapshot()  # counters of workers that have ended, so that a counter never falls
        self._prober: Gateway

    @property
    def address(self) -> Address:
        return self._workers[0].listening.address

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        ruleset = self._source.rules_file.ruleset
        self._prober = Gateway(self._settings, ruleset, Stats(), AccessLog("off"), loop)
        self._lives = [loop.create_task(self._keep_alive(worker)) for worker in self._workers]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                await self._one_serves.wait()

    def use_rules(self) -> None:
        for worker in self._workers:
            if worker.channel is not None:
                worker.channel.send(UseRules(self._source.data))

    async def snapshot(self) -> Snapshot:
        await asyncio.gather(*(_ask(worker, "snapshot") for worker in self._workers))
        # No await from here on: when a worker ends, its numbers move from `latest` to `_past`.
        return merge([self._past, *(worker.latest for worker in self._workers if worker.latest is not None)])

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

    async def audit(self) -> Sequence[Frames]:
        await asyncio.gather(*(_ask(worker, "audit") for worker in self._workers))
        return [*self._past_evidence, *(worker.evidence for worker in self._workers if worker.evidence)]

    def reset_audit(self) -> None:
        self._past_evidence.clear()
        for worker in self._workers:
            worker.evidence = ()
            if worker.channel is not None:
                worker.resets += 1
                worker.channel.send("reset-audit")

    async def recent(self) -> Sequence[bytes]:
        self._watched_until_s = asyncio.get_running_loop().time() + WATCHED_S
        await asyncio.gather(*(_ask(worker, "recent") for worker in self._workers))
        rows = [row for worker in self._workers for row in worker.recent]
        for worker in self._workers:
            worker.recent = ()
        return rows

    async def drain(self, timeout_s: float) -> int:
        self._ending.set()
        for worker in self._workers:
            worker.listening.close()  # else the kernel would still queue connections on it
            if worker.channel is not None:
                worker.channel.send(Drain(timeout_s))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s + _LAST_WORDS_S):
                await asyncio.gather(*self._lives)
        return self._aborted

    def close(self) -> None:
        self._ending.set()
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                worker.process.kill()
            worker.listening.close()
        for life in self._lives:
            life.cancel()
        self._workers[0].listening.remove_file()

    async def _keep_alive(self, worker: _Worker) -> None:
        """Keep a process running in this slot until the end."""
        loop = asyncio.get_running_loop()
        short_lives = 0
        while not self._ending.is_set():
            began_s = loop.time()
            worker.has_served = False
            try:
                last = await self._live(worker)
            except OSError as error:  # no memory or descriptor for a process: try again later
                last = str(error)
            except Exception as error:  # noqa: BLE001 - a mistake of this program must not end the slot
                _log.exception("supervising worker %d failed", worker.number)
                last = repr(error)
            if self._ending.is_set():
                return
            if not worker.has_served:
                _leave_connections_to_others(worker)
            short_lives = short_lives + 1 if loop.time() - began_s < _SHORT_LIFE_S else 0
            pause_s = _RESTART_PAUSES_S[min(short_lives, len(_RESTART_PAUSES_S)) - 1] if short_lives else 0.0
            _log.error("worker %d ended (%s); the next one starts in %gs", worker.number, last, pause_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._ending.wait()

    async def _live(self, worker: _Worker) -> str:
        """Run one process until it ends; return how it ended."""
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno(), *(one.fileno() for one in worker.listening.sockets)]
        process = await start_process(
            "proxy.service.worker_process", *map(str, descriptors), pass_fds=descriptors
        )
        theirs.close()
        worker.process = process
        worker.channel = channel = await Channel.open(ours)
        channel.send(Start(self._settings, self._source.data, self._audit_secret))
        try:
            while isinstance(report := await channel.receive(), Report):
                self._take(report, worker, channel)
        except Exception:  # noqa: BLE001 - a mistake of this program; a worker that nobody listens to is replaced
            _log.exception("supervising worker %d failed", worker.number)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        worker.is_serving = False
        worker.channel = None
        if worker.latest is not None:
            self._past = merge([self._past, _counters_of(worker.latest)])
            worker.latest = None
        if worker.evidence:
            self._past_evidence.append(worker.evidence)
        worker.evidence, worker.resets = (), 0
        for answered in worker.answered.values():
            answered.set()
        await channel.close()
        code = await process.wait()
        worker.process = None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _take(self, report: Report, worker: _Worker, channel: Channel) -> None:
        if report.kind == "serving":
            worker.is_serving = worker.has_served = True
            self._one_serves.set()
            # Meanwhile the rules may have changed, or the drain begun.
            channel.send(UseRules(self._source.data))
            if self._ending.is_set():
                channel.send(Drain(0))
            if asyncio.get_running_loop().time() < self._watched_until_s:
                channel.send("recent")
        elif report.kind == "drained":
            self._aborted += report.aborted
        else:
            _take_answer(report, report.kind, worker)


def _leave_connections_to_others(worker: _Worker) -> None:
    """Stop queueing connections for a worker that cannot start: they might wait for ever."""
    if worker.listening.address.path is not None:
        return  # the other workers accept from the same socket
    with contextlib.suppress(ListenError):
        not_yet_listening = bind(worker.listening.address, is_shared=True)
        worker.listening.close()
        worker.listening = not_yet_listening


async def _ask(worker: _Worker, question: Question) -> None:
    """Ask a worker for an answer and wait a moment for it."""
    if not worker.is_serving or worker.channel is None:
        return
    answered = worker.answered[question]
    answered.clear()
    worker.channel.send(question)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            await answered.wait()
    answered.set()


def _take_answer(report: Report, question: Question, worker: _Worker) -> None:
    """Take an answer. A late one still counts, except for recent exchanges: nobody waits for those any more."""
    if question == "snapshot":
        worker.latest = report.snapshot
    elif question == "audit":
        if report.resets != worker.resets:
            return  # the worker sent it before it was told to forget its evidence
        worker.evidence = report.audit
    elif not worker.answered[question].is_set():
        worker.recent = report.recent
    worker.answered[question].set()


def _counters_of(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot with its gauges at 0: an ended worker has no open connections."""
    return {**snapshot, **dict.fromkeys(GAUGES, 0)}


def _shared_sockets(settings: Settings) -> list[Listening]:
    others = range(settings.workers - 1)
    if settings.listen.path is not None:
        first = bind(settings.listen)  # workers share a Unix socket by its descriptor
        return [first, *(Listening(first.address, [first.sockets[0].dup()]) for _ in others)]
    if settings.listen.port:
        bind(
            settings.listen
        ).close()  # fail if another sidecar shares this port: SO_REUSEPORT alone would join it
    first = bind(settings.listen, is_shared=True)
    return [first, *(bind(first.address, is_shared=True) for _ in others)]
