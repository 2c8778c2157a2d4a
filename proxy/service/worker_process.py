"""A worker process: runs a gateway, obeys its supervisor, and ends when the supervisor is gone.

Run as `python -m proxy.service.worker_process CHANNEL_FD LISTEN_FD...`.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Final, Literal, assert_never

import uvloop

from proxy.gateway.access_log import AccessLog, open_access_log
from proxy.gateway.server import Gateway
from proxy.rules.loading import loader
from proxy.service import logs, runtime
from proxy.service.audit_reports import Desk, collector_for
from proxy.service.background import Background
from proxy.service.channel import Channel, Drain, Order, Question, Report, Start, UseRules
from proxy.settings import Settings
from proxy.stats import Stats

_ORPHAN_DRAIN_S: Final = 5.0

_Obeyed = Start | UseRules | Question | Literal["reset-audit", "reopen-log"] | Report


def main() -> None:
    """Run a worker on the descriptors that it inherits."""
    channel_end, *listening = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        # The supervisor handles these; Ctrl-C reaches the whole process group.
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(channel_end, listening))


async def _run(channel_end: socket.socket, listening: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    channel = await Channel.open(channel_end)
    start = await channel.receive()
    if not isinstance(start, Start):
        return
    settings = start.settings
    runtime.share_fairly()
    runtime.keep_buffers()
    logs.configure(settings.log_format, settings.log_level)
    stats = Stats()
    access_log = open_access_log(settings)
    ruleset = loader.loads(start.rules, str(settings.rules)).ruleset
    collector = collector_for(settings, start.audit_secret)
    gateway = Gateway(settings, ruleset, stats, access_log, loop, audit=collector)
    told_to_end = asyncio.Event()
    desk = Desk(collector, channel)
    telling = loop.create_task(desk.keep_telling())
    loop.add_signal_handler(signal.SIGTERM, told_to_end.set)
    await gateway.start(listening)
    runtime.settle()
    channel.send(Report("serving"))
    ending = loop.create_task(told_to_end.wait())
    orders = _Orders(settings, channel, gateway, access_log, desk)
    while not isinstance(order := await _next_order(channel, ending, settings), Drain):
        await orders.obey(order)
    telling.cancel()
    aborted = await gateway.drain(order.timeout_s)
    access_log.close()
    channel.send(Report("drained", aborted=aborted))
    await channel.close()
    ending.cancel()


class _Orders:
    """Obeys what the supervisor tells a worker to do while it serves."""

    def __init__(
        self, settings: Settings, channel: Channel, gateway: Gateway, access_log: AccessLog, desk: Desk
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._gateway = gateway
        self._access_log = access_log
        self._desk = desk
        self._loading = Background("rules")

    async def obey(self, order: _Obeyed) -> None:
        """Do it; a mistake of this program is logged and counted, and the worker goes on as it was."""
        try:
            await self._do(order)
        except Exception:  # noqa: BLE001 - it must not end a worker, and with it all that it has under way
            what = f"what the supervisor asked for ({order})"
            if isinstance(order, UseRules):
                what = f"rules stay those of digest {self._gateway.ruleset.digest}: taking new ones"
            self._gateway.context.recorder.own_mistake(what)

    async def _do(self, order: _Obeyed) -> None:
        match order:
            case "snapshot":
                self._channel.send(Report("snapshot", snapshot=self._gateway.stats.snapshot()))
            case "audit":
                await self._desk.tell()
            case "reset-audit":
                self._desk.reset()
            case "recent":
                self._channel.send(Report("recent", recent=await self._gateway.watch()))
            case "reopen-log":
                self._access_log.reopen()
            case UseRules(rules):
                loading = self._loading.call(loader.loads, rules, str(self._settings.rules))
                self._gateway.ruleset = (await asyncio.wrap_future(loading)).ruleset
            case Start() | Report():
                pass
            case _:
                assert_never(order)


async def _next_order(
    channel: Channel, ending: asyncio.Task[Literal[True]], settings: Settings
) -> Order | Report:
    """Wait for an order. A signal counts as an order to drain, and so does the end of the supervisor."""
    receiving = asyncio.ensure_future(channel.receive())
    await asyncio.wait({receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
    if not receiving.done():
        receiving.cancel()
        return Drain(settings.drain_timeout_s)
    order = receiving.result()
    return Drain(_ORPHAN_DRAIN_S) if order is None else order


if __name__ == "__main__":
    main()
