"""A worker process: runs a gateway, obeys its supervisor, and ends when the supervisor is gone.

Run as `python -m proxy.service.worker_process CHANNEL_FD LISTEN_FD...`.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Final, assert_never

import uvloop

from proxy.gateway.access_log import AccessLog
from proxy.gateway.server import Gateway
from proxy.rules.loading import loader
from proxy.service import logs, runtime
from proxy.service.background import Background
from proxy.service.channel import Channel, Drain, Report, Start, UseRules
from proxy.stats import Stats

_ORPHAN_DRAIN_S: Final = 5.0


def main() -> None:
    """Run a worker on the descriptors that it inherits."""
    channel_end, *listening = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        signal.signal(
            number, signal.SIG_IGN
        )  # the supervisor handles these; Ctrl-C reaches the whole process group
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
    access_log = AccessLog(settings.access_log, settings.access_log_file)
    ruleset = loader.loads(start.rules, str(settings.rules)).ruleset
    gateway = Gateway(settings, ruleset, stats, access_log, loop)
    told_to_end = asyncio.Event()
    loading = Background("rules")
    loop.add_signal_handler(signal.SIGTERM, told_to_end.set)
    await gateway.start(listening)
    runtime.settle()
    channel.send(Report("serving"))
    ending = loop.create_task(told_to_end.wait())
    timeout_s = settings.drain_timeout_s
    while not told_to_end.is_set():
        receiving = loop.create_task(channel.receive())
        await asyncio.wait({receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            receiving.cancel()
            break
        match order := receiving.result():
            case None:
                timeout_s = _ORPHAN_DRAIN_S
                break
            case "snapshot":
                channel.send(Report("snapshot", snapshot=stats.snapshot()))
            case "reopen-log":
                access_log.reopen()
            case UseRules(rules):
                loaded = await asyncio.wrap_future(loading.call(loader.loads, rules, str(settings.rules)))
                gateway.ruleset = loaded.ruleset
            case Drain():
                timeout_s = order.timeout_s
                break
            case Start() | Report():
                continue
            case _:
                assert_never(order)
    aborted = await gateway.drain(timeout_s)
    access_log.close()
    channel.send(Report("drained", aborted=aborted))
    await channel.close()
    ending.cancel()


if __name__ == "__main__":
    main()
