"""Rules are swapped under load: nobody notices but by the fields, and each response has one version's.

Good and bad files come by every way that files are replaced, while clients at full speed check each
response whole. Its rules must have been in force between its request and itself: not older than what anyone
saw before the request was sent, not newer than what was written when it came, and never a bad file's.
No connection is dropped, the tunnel lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.service.volume import Volume, may_mount
from tests.support.peer import Answer, Peer, request
from tests.support.serving import Sidecar, connect, sidecar
from tests.support.upstream import scripted, switch_and_echo
from tests.support.waiting import LIMIT_S, until

# Each version reads other fields than the one before: its responses tell it by `Vary` as well.
CONDITIONS = (
    ("{x_requested_with: XMLHttpRequest}", {b"x-requested-with"}),
    ('{headers: {Accept: "*json*"}}', {b"accept"}),
    (
        '{headers: {X-A: "1", Accept: "*json*"}, x_requested_with: true}',
        {b"x-a", b"accept", b"x-requested-with"},
    ),
)
FIELDS = ("Accept: text/json", "X-A: 1", "X-Requested-With: XMLHttpRequest")
GOOD = """\
version: 1
rules:
  - {name: ajax, match: %s, policy: numbered}
policies:
  numbered: {extends: strict, set: {X-Rules-Version: "%d"}}
tests:
  - request: {path: /, headers: {Accept: text/json, X-A: "1", X-Requested-With: XMLHttpRequest}}
    expect: {rule: ajax}
"""
REFUSAL = "rules not reloaded"
BAD = (
    "version: 1\nrules: [{name: bad%d, match: {paths: [/a]}}]\ntests: [{request: {path: /b}, expect: {policy: strict}}]\n",
    "version: 1\nrules: [{nam: bad%d}]\n",
    "version: 1\nrules: [{name: bad%d, policy: nowhere}]\n",
    "version: 1\nrules: [\n# %d\n",
    "# nothing at all, %d\n",
)


@dataclass
class Ledger:
    """Which versions can be in force: `oldest` at least, `newest` at most.

    Attributes:
        oldest: the newest that anyone has seen: no worker goes back.
        newest: the newest good one whose writing has begun.
        is_shared: whether one worker answers all, so that what one client saw binds the others.
        served: responses checked, by the client's kind.
    """

    is_shared: bool
    oldest: int = 0
    newest: int = 0
    served: Counter[str] = field(default_factory=Counter)
    clients: list[Client] = field(default_factory=list)

    def check(self, answer: Answer, content: bytes, oldest: int) -> int:
        """Check a response whole; return the version that its rules are of."""
        assert answer.status == 200, answer.data
        assert answer.content == content, answer.data
        assert answer.is_protected, answer.head
        (number,) = (int(value) for value in answer.field("X-Rules-Version"))
        assert oldest <= number <= self.newest, (oldest, number, self.newest)
        fields = b",".join(answer.field("Vary")).lower().replace(b" ", b"").split(b",")
        assert set(fields) == CONDITIONS[number % len(CONDITIONS)][1], (number, fields)
        self.oldest = max(self.oldest, number)
        return number

    def is_in_force(self, number: int) -> bool:
        """Whether every client has seen it."""
        return all(client.oldest >= number for client in self.clients)


@dataclass
class Client:
    """Sends requests as fast as they are answered."""

    kind: str
    ledger: Ledger
    running: Sidecar
    oldest: int = 0
    asked: int = 0

    async def run(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            async with await connect(self.running.listen) as peer:
                await self._ask(peer)
                while self.kind != "one connection each" and not is_over.is_set():
                    await self._ask(peer)

    async def _ask(self, peer: Peer) -> None:
        oldest = self.ledger.oldest if self.ledger.is_shared else self._own_floor()
        contents = []
        for _ in range(8 if self.kind == "pipelining" else 1):
            self.asked += 1
            target = f"/{self.kind.replace(' ', '-')}/{self.asked}"
            posted = b"x" * (self.asked % 5000) if self.kind == "posting" else b""
            peer.writer.write(message(target, posted))
            contents.append(target.encode() + posted)
        for content in contents:
            self.oldest = self.ledger.check(await peer.read_response(), content, oldest)
            self.ledger.served[self.kind] += 1

    def _own_floor(self) -> int:
        return 0 if self.kind == "one connection each" else self.oldest


KINDS = ("plain", "plain", "plain", "posting", "pipelining", "one connection each")


def message(target: str, content: bytes = b"") -> bytes:
    if not content:
        return request(target, *FIELDS)
    head = request(target, f"Content-Length: {len(content)}", *FIELDS)
    return head.replace(b"GET", b"POST", 1) + content


# The app


@dataclass
class App:
    """Answers with the target and the content it was sent; an upgrade gets an echo.

    `/held/head` and `/held/content` wait for the test before all and before the last byte of the response.
    """

    held: asyncio.Queue[asyncio.Event] = field(default_factory=asyncio.Queue)
    port: int = 0

    async def serve(self, peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            if b"\r\nupgrade:" in head.lower():
                await switch_and_echo(peer)
                return
            target = head.split(b" ", 2)[1]
            data = target + await peer.read_content(head)
            fields = b'Cache-Control: max-age=60\r\nETag: "app"\r\nContent-Length: %d' % len(data)
            await self._answer(target, b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + data, peer)

    async def _answer(self, target: bytes, data: bytes, peer: Peer) -> None:
        if target.startswith(b"/held/"):
            until = -1 if target.startswith(b"/held/content") else 0
            await peer.send(data[:until])
            data = data[until:]
            released = asyncio.Event()
            self.held.put_nowait(released)
            await released.wait()
        await peer.send(data)


@pytest.fixture
async def app() -> AsyncIterator[App]:
    app = App()
    async with scripted(app.serve) as recorder:
        app.port = recorder.port
        yield app


# Swaps


@dataclass
class Swaps:
    """Swaps one file after the other, waits for what must come of each, and counts."""

    volume: Volume
    ledger: Ledger
    running: Sidecar
    done: Counter[str] = field(default_factory=Counter)
    bad: Iterator[int] = field(default_factory=itertools.count)

    def good_text(self) -> str:
        self.ledger.newest += 1
        return good(self.ledger.newest)

    async def taken(self) -> None:
        await until(lambda: self.ledger.is_in_force(self.ledger.newest))

    def refused(self) -> int:
        return sum(REFUSAL in line for line in self.running.log.read)

    async def refusal(self, before: int) -> None:
        await self.running.log.matching(REFUSAL, before + 1)

    async def good(self, replace: Callable[[str], None]) -> None:
        replace(self.good_text())
        await self.taken()

    async def bad_file(self, replace: Callable[[str], None]) -> None:
        number = next(self.bad)
        before = self.refused()
        replace(BAD[number % len(BAD)] % number)
        await self.refusal(before)

    async def haste(self) -> None:
        """Three at once: the last must be taken, the others may."""
        self.volume.renamed(self.good_text())
        self.volume.in_place(self.good_text())
        self.volume.config_map(self.good_text())
        await self.taken()

    async def gone_for_a_moment(self) -> None:
        self.volume.path.unlink()
        await asyncio.sleep(0)
        await self.good(self.volume.in_place)

    async def gone_until_it_is_noticed(self) -> None:
        before = self.refused()
        self.volume.path.unlink()
        await self.refusal(before)
        await self.good(self.volume.renamed)

    async def half_written(self) -> None:
        """Half of a file that rests is a bad file, here: its rule names a policy of the other half."""
        text = self.good_text()
        half = text.index("policies") if self.ledger.newest % 2 else text.index("extends")
        with self.volume.path.open("w") as file:
            before = self.refused()
            file.write(text[:half])
            file.flush()
            await self.refusal(before)
            file.write(text[half:])
        await self.taken()

    async def written_slowly(self) -> None:
        """Never at rest between its pieces, as it seems, or at rest and refused: whole in the end."""
        text = self.good_text()
        with self.volume.path.open("w") as file:
            for start in range(0, len(text), 40):
                file.write(text[start : start + 40])
                file.flush()
                await asyncio.sleep(0.01)
        await self.taken()

    def kinds(self, *, with_mounts: bool) -> dict[str, Callable[[], Awaitable[None]]]:
        volume = self.volume
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "in place": lambda: self.good(volume.in_place),
            "bad, in place": lambda: self.bad_file(volume.in_place),
            "renamed": lambda: self.good(volume.renamed),
            "config map": lambda: self.good(volume.config_map),
            "bad config map": lambda: self.bad_file(volume.config_map),
            "haste": self.haste,
            "gone for a moment": self.gone_for_a_moment,
            "gone until it is noticed": self.gone_until_it_is_noticed,
            "bad, renamed": lambda: self.bad_file(volume.renamed),
            "half written": self.half_written,
            "written slowly": self.written_slowly,
        }
        if with_mounts:
            kinds["bind mount"] = lambda: self.good(volume.mounted)
            kinds["bind mount taken off"] = lambda: self.good(volume.mounted)
        return kinds


def good(number: int) -> str:
    return GOOD % (CONDITIONS[number % len(CONDITIONS)][0], number)


# The run


@asynccontextmanager
async def straddling(app: App, swaps: Swaps, number: int) -> AsyncIterator[None]:
    """Two requests across the block: the rules are those of the moment when the head was complete.

    The first has its head complete before the block and its response after it, the second ends its head
    after the block.
    """
    ledger, before = swaps.ledger, swaps.ledger.oldest
    held, whole = f"/held/{'content' if number % 2 else 'head'}/{number}", f"/late/{number}"
    async with await connect(swaps.running.listen) as early, await connect(swaps.running.listen) as late:
        await early.send(message(held))
        await late.send(message(whole)[:-3])
        async with asyncio.timeout(LIMIT_S):
            released = await app.held.get()
        yield
        released.set()
        await late.send(message(whole)[-3:])
        assert ledger.check(await early.read_response(), held.encode(), before) == before
        assert ledger.check(await late.read_response(), whole.encode(), ledger.oldest) == ledger.newest
        ledger.served["straddling"] += 2


async def keep_echoing(tunnel: Peer, is_over: asyncio.Event) -> int:
    sent = 0
    while not is_over.is_set():
        sent += 1
        data = b"%d " % sent * 100
        await tunnel.send(data)
        async with asyncio.timeout(LIMIT_S):
            assert await tunnel.reader.readexactly(len(data)) == data
        await asyncio.sleep(0.01)
    return sent


async def swap_under_load(app: App, root: Path, *, count: int, workers: int, with_mounts: bool) -> str:
    """Run it; return the figures in a line."""
    volume = Volume(root, good(0))
    ledger = Ledger(is_shared=workers == 1)
    url, is_over = f"http://127.0.0.1:{app.port}", asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        async with sidecar(url, volume.path, "--workers", str(workers)) as running:
            tunnel = await connect(running.listen)
            await tunnel.send(request("/ws", "Connection: Upgrade", "Upgrade: echo"))
            assert b" 101 " in await tunnel.read_head()
            ledger.clients = [Client(kind, ledger, running) for kind in KINDS]
            swaps = Swaps(volume, ledger, running)
            began_s = loop.time()
            async with asyncio.TaskGroup() as group:  # a client that fails ends it all
                echoed = group.create_task(keep_echoing(tunnel, is_over))
                for client in ledger.clients:
                    group.create_task(client.run(is_over))
                ways = itertools.cycle(swaps.kinds(with_mounts=with_mounts).items())
                for number, (name, swap) in zip(range(count), ways, strict=False):
                    across = straddling(app, swaps, number) if workers == 1 else contextlib.nullcontext()
                    async with across:
                        await swap()
                    swaps.done[name] += 1
                is_over.set()
            took_s = loop.time() - began_s
            samples = await running.metrics()
            assert samples["nocache_proxy_tunnels_open"] == 1
            refused = int(samples['nocache_proxy_rules_reloads_total{result="failure"}'])
            assert len(await running.log.matching(REFUSAL, refused)) == refused > 0
            taken = samples['nocache_proxy_rules_reloads_total{result="success"}']
            assert not any('"level": "critical"' in line or "Traceback" in line for line in running.log.read)
            assert set(ledger.served) >= set(KINDS)
    finally:
        volume.unmount()
    return (
        f"{count} swaps in {took_s:.1f} s with {workers} workers: {taken:.0f} files taken, {refused} refused; "
        f"{ledger.served.total()} requests ({ledger.served.total() / took_s:.0f}/s), 0 failed; "
        f"{echoed.result()} echoes in the tunnel; {dict(swaps.done)}; {dict(ledger.served)}"
    )


@pytest.mark.parametrize(
    ("workers", "count", "with_mounts"),
    [
        (1, 22, False),
        (2, 11, False),
        (1, 26, True),
        *(pytest.param(n, 200, True, marks=[pytest.mark.slow, pytest.mark.timeout(600)]) for n in (1, 2)),
    ],
)
async def test_no_swap_is_noticed_but_by_the_rules(app, tmp_path, workers, count, with_mounts):
    """Two hundred take two to three minutes; prints its figures."""
    if with_mounts and not may_mount(tmp_path):
        pytest.skip("bind mounts are not permitted here")
    print("\n" + await swap_under_load(app, tmp_path, count=count, workers=workers, with_mounts=with_mounts))
