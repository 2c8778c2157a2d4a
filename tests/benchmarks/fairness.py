"""One connection as busy as it can be: how long do the requests of others wait?

    python -m tests.benchmarks.fairness [--peers own,haproxy,nginx] [--seconds 4] [--floods NAME,...]

Each flood is one client, or one app, that sends as fast as the proxy takes it; one other client asks for a small answer
a hundred times a second. The floods come from processes of their own, and so do their answers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from tests.benchmarks import peers, processes
from tests.support.ports import free_ports

ENDLESS = 1 << 50
START_S = 15.0
RAMP_S = 0.5  # a flood fills the buffers on its way before anybody is asked how long they wait
PAUSE_S = 0.01
BLOCK = b"x" * (1 << 18)
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok"
ASKED = b"GET /small HTTP/1.1\r\nHost: a\r\nX-Requested-With: XMLHttpRequest\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Flood:
    """What one busy client sends.

    Attributes:
        begin: sent once.
        again: sent over and over; nothing where the app is what floods.
    """

    begin: bytes
    again: bytes = b""


def _head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: a", *fields, b"", b""])


def _chunks(*sizes: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes)


FLOODS = {
    "nothing": Flood(b""),
    "chunks of 1 byte": Flood(_head(b"POST /sink", b"Transfer-Encoding: chunked"), _chunks(1) * 20_000),
    "chunks with extensions": Flood(
        _head(b"POST /sink", b"Transfer-Encoding: chunked"), b"1;a=b\r\nx\r\n2;c\r\nxx\r\n" * 10_000
    ),
    "empty lines": Flood(b"", b"\r\n" * 30_000),
    "tiny requests": Flood(b"", _head(b"GET /small") * 2_000),
    "parts of a head": Flood(b"GET /small HTTP/1.1\r\nHost: a\r\n", b"A: b\r\n"),
    "large upload": Flood(_head(b"POST /sink", b"Content-Length: %d" % ENDLESS), BLOCK),
    "large download": Flood(_head(b"GET /large")),
    "large chunked download": Flood(_head(b"GET /chunked")),
    "app in chunks of 1 byte": Flood(_head(b"GET /bytes")),
    "tunnel both ways": Flood(_head(b"GET /tunnel", b"Connection: Upgrade", b"Upgrade: raw"), BLOCK),
}


# The app: a process for each connection, so that one that floods does not hold the others up.


def serve(listening: socket.socket) -> None:
    """Accept, and answer each connection in a child."""
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                _answer(connection)
            os._exit(0)
        connection.close()


def _answer(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        target = head.split(b" ")[1]
        if target == b"/small":
            connection.sendall(SMALL)
        elif target == b"/sink":
            _read_all(connection)
            return
        elif target == b"/tunnel":
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
            )
            threading.Thread(target=_read_all, args=[connection], daemon=True).start()
            _send_for_ever(connection, BLOCK)
        elif target == b"/large":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ENDLESS)
            _send_for_ever(connection, BLOCK)
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            _send_for_ever(connection, _chunks(1) * 20_000 if target == b"/bytes" else _chunks(8192) * 32)


def _send_for_ever(connection: socket.socket, data: bytes) -> None:
    while True:
        connection.sendall(data)


def _read_all(connection: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    with contextlib.suppress(OSError):
        while connection.recv_into(buffer):
            pass


# The clients


def flood(port: int, sent: Flood) -> None:
    """Flood; where the proxy refuses, begin again."""
    while True:
        with contextlib.suppress(OSError), _connected(port) as connection:
            threading.Thread(target=_read_all, args=[connection], daemon=True).start()
            connection.sendall(sent.begin)
            while sent.again:
                connection.sendall(sent.again)
            time.sleep(3600)


def waits_ms(port: int, seconds: float) -> list[float]:
    """How long an ordinary client waits for each of its answers, in order of length."""
    waits = []
    end = time.monotonic() + seconds
    with _connected(port) as connection:
        while time.monotonic() < end:
            began = time.monotonic()
            connection.sendall(ASKED)
            answer = b""
            while not answer.endswith(b"ok"):
                more = connection.recv(65536)
                if not more:
                    raise ConnectionError("the proxy closed an ordinary client's connection")
                answer += more
            waits.append((time.monotonic() - began) * 1e3)
            time.sleep(PAUSE_S)
    return sorted(waits)


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@dataclass(frozen=True, slots=True)
class Waits:
    """In milliseconds."""

    median: float
    p99: float
    most: float

    @classmethod
    def of(cls, waits: list[float]) -> Waits:
        return cls(waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1])


def measure(port: int, sent: Flood, seconds: float, clients: int = 1) -> Waits:
    """Let clients flood a proxy, and ask it for small answers meanwhile."""
    with contextlib.ExitStack() as ends:
        for _ in range(clients):
            ends.enter_context(_process(flood, port, sent))
        time.sleep(RAMP_S)
        return Waits.of(waits_ms(port, seconds))


@contextlib.contextmanager
def app() -> Iterator[int]:
    """The app; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening, _process(serve, listening):
        yield listening.getsockname()[1]


@contextlib.contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    # Forked: it has nothing to import, and ends with its own id.
    process = multiprocessing.get_context("fork").Process(target=_as_group, args=[target, *arguments])
    process.start()
    try:
        yield
    finally:
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.join()


def _as_group(target: Callable[..., None], *arguments: object) -> None:
    os.setpgid(0, 0)
    target(*arguments)


def _wait_until_it_answers(port: int) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            waits_ms(port, 0.05)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


@click.command(help=__doc__)
@click.option("--peers", "names", default="own,haproxy,nginx", show_default=True)
@click.option("--floods", "floods", default=",".join(FLOODS))
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=4.0, show_default=True)
@click.option("--clients", type=click.IntRange(1, 64), default=1, show_default=True, help="That flood.")
def main(names: str, floods: str, seconds: float, clients: int) -> None:
    """Print a table."""
    chosen = [peers.BY_NAME[name] for name in names.split(",")]
    click.echo("| ms, median / p99 / most | " + " | ".join(peer.title for peer in chosen) + " |")
    click.echo("|---" * (len(chosen) + 1) + "|")
    for name in floods.split(","):
        cells = [_cell(peer, FLOODS[name], seconds, clients) for peer in chosen]
        click.echo(f"| {name} | " + " | ".join(cells) + " |")


def _cell(peer: peers.Peer, sent: Flood, seconds: float, clients: int) -> str:
    missing = peer.missing()
    if missing is not None:
        return re.sub(r"\s+", " ", missing)
    everywhere = frozenset(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory, app() as upstream:
        listen, admin = free_ports(2)
        command = peer.command(peers.Ports(listen, upstream, admin), Path(directory))
        with processes.running(command, everywhere, Path(directory, "output")):
            _wait_until_it_answers(listen)
            try:
                waits = measure(listen, sent, seconds, clients)
            except OSError as error:
                return f"none ({type(error).__name__})"
    return f"{waits.median:.1f} / {waits.p99:.1f} / {waits.most:.1f}"


if __name__ == "__main__":
    main()
