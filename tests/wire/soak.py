"""Mixed traffic through a running sidecar: an app of many faults, and clients that check every byte.

The first segment of a target's path says what the app does, the next two which part of a fixed block is its
content: whatever comes back can be checked whole, with nothing remembered.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.peer import XHR_LINE, Answer, Peer
from tests.support.upstream import scripted, switch_and_echo

LIMIT_S = 60.0  # how long any one step may take before the run calls it hung
LATE_S = 0.003  # after which content comes that should not; others may have the connection by then
STRAY = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 22\r\n\r\nMalformed Request-Line"
BLOCK = random.Random(1).randbytes(4 * 1024 * 1024)
ONE_READ = 8192  # bytes that arrive together
OFFSETS = 6000  # more paths than the proxy remembers plans for
GET = b"GET /sized/1/1 HTTP/1.1\r\nHost: app\r\n\r\n"
OK = b'HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nETag: "v1"\r\n'
CUT = {
    "cut": (b"Content-Length: %d\r\n\r\n", "reset"),
    "shut": (b"Content-Length: %d\r\n\r\n", "close"),
    "cut-chunked": (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n", "reset"),
    "shut-chunked": (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n", "close"),
    "cut-unframed": (b"X-Length: %d\r\n\r\n", "reset"),
}
REFUSED = {
    "garbage": b"220 mail.example ESMTP\r\n",
    "nothing": b"",
    "two-lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "endless": OK + b"A: " + b"x" * 70_000,
    "not-modified": b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n',
}
"""What becomes a 502; `not-modified` where conditions are stripped."""


LAST = {*CUT, *REFUSED, "tunnel", "unread", "never"}


def part(size: int, offset: int) -> bytes:
    """Cut the content out of the block that a target stands for."""
    return BLOCK[offset : offset + size]


# The app


@asynccontextmanager
async def app() -> AsyncIterator[str]:
    """Run the app; gives its address."""
    async with scripted(_connection) as recorder:
        yield recorder.url


async def _connection(peer: Peer) -> None:
    login = Login()
    while await _answer(peer, login):
        pass


@dataclass
class Login:
    """Whose a connection is, RFC 4559: it is authenticated by two requests in a row, and stays so.

    Attributes:
        challenged: who has sent the first of them.
        user: who has sent both.
    """

    challenged: bytes = b""
    user: bytes = b""

    def answer(self, head: bytes) -> bytes:
        """Take what a request says of itself; the head of the answer up to its length."""
        step, _, name = head.partition(b"Authorization: NTLM ")[2].partition(b"\r\n")[0].partition(b" ")
        self.user = name if step == b"three" and name == self.challenged else self.user if not step else b""
        self.challenged = name if step == b"one" else b""
        if self.user:
            return OK + b"X-User: %b\r\n" % self.user
        challenge = b" challenge" if self.challenged else b""
        return OK.replace(b"200 OK", b"401 Unauthorized") + b"WWW-Authenticate: NTLM%b\r\n" % challenge


async def _answer(peer: Peer, login: Login) -> bool:
    """Answer one request; say whether the connection goes on."""
    head = await peer.reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b" ", 2)
    kind, size, offset = target.decode().strip("/").split("/")
    posted = b"" if kind == "unread" else await peer.read_content(head)
    content = posted or part(int(size), int(offset))
    if kind in LAST:
        await _last_answer(peer, kind, content)
        return False
    if kind == "who":
        await peer.send(login.answer(head) + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        return True
    answer = _late_answer if kind == "late" else _good_answer
    return await answer(peer, kind, content, is_head=method == b"HEAD")


async def _last_answer(peer: Peer, kind: str, content: bytes) -> None:
    """Answer, or do not, in a way after which the connection can serve nobody."""
    if kind in CUT:
        framing, end = CUT[kind]
        await peer.send(OK + framing % len(content) + content[: len(content) // 2])
        if end == "reset":
            peer.reset()
    elif kind in REFUSED:
        await peer.send(REFUSED[kind])
    elif kind == "tunnel":
        await switch_and_echo(peer)
    elif kind == "unread":
        # As cheroot does, and Django's own server: what is left of the request is taken for the next one.
        await peer.send(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        await asyncio.sleep(LATE_S)
        await peer.send(STRAY)
    else:
        await peer.reader.read()


async def _late_answer(peer: Peer, _kind: str, content: bytes, *, is_head: bool) -> bool:
    """Send content after a HEAD, too, as most WSGI servers do for apps that do not look at the method."""
    await peer.send(OK + b"Content-Length: %d\r\n\r\n" % len(content))
    await asyncio.sleep(LATE_S if is_head else 0)
    await peer.send(content)
    return True


async def _good_answer(peer: Peer, kind: str, content: bytes, *, is_head: bool) -> bool:
    if kind == "hinted":
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    if kind == "unframed":
        # A head alone shows no framing that ends with the connection: it is kept then.
        await peer.send(OK + b"\r\n" + (b"" if is_head else content))
        return is_head
    if kind == "chunked":
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        if not is_head:
            for start in range(0, len(content), 10_000):
                piece = content[start : start + 10_000]
                await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await peer.send(b"0\r\n\r\n")
        return True
    whole = OK + b"Content-Length: %d\r\n\r\n" % len(content) + (b"" if is_head else content)
    if kind == "slow":
        await send(peer, whole, pieces=10)
    elif kind == "talkative" and len(whole) < ONE_READ:
        # More than it announced, read together with it: the answer is good, the connection is not.
        await peer.send(whole + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await peer.reader.read()
        return False
    else:
        await peer.send(whole)
    return True


# Clients


@dataclass
class Traffic:
    """All clients together.

    Attributes:
        place: where the sidecar listens.
        is_over: ends every client after its current step.
        done: checked answers and faults, by kind.
    """

    place: tuple[str, int]
    seed: int = 0
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    done: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Run until `is_over`; the first wrong answer ends it all."""
        async with asyncio.TaskGroup() as group:
            for number, step in enumerate(STEPS):
                group.create_task(self._repeat(step, random.Random(1000 * self.seed + number)))

    async def _repeat(self, step: Step, rng: random.Random) -> None:
        while not self.is_over.is_set():
            async with asyncio.timeout(LIMIT_S):
                await step(self, rng)

    @asynccontextmanager
    async def connected(self, receive_buffer: int = 0) -> AsyncIterator[Peer]:
        sock = socket.create_connection(self.place)  # the kernel takes it at once
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        limit = receive_buffer or 65536
        peer = Peer(*await asyncio.open_connection(sock=sock, limit=limit))
        try:
            yield peer
        finally:
            peer.close()


Step = Callable[[Traffic, random.Random], Awaitable[None]]


def head_of(kind: str, size: int, offset: int, *, method: str = "GET", fields: bytes = XHR_LINE) -> bytes:
    return f"{method} /{kind}/{size}/{offset} HTTP/1.1\r\nHost: app\r\n".encode() + fields + b"\r\n"


async def read_answer(peer: Peer, *, is_head: bool = False) -> tuple[Answer, bytes]:
    """Read one final response and its content by its framing; fail where it ends too early."""
    while True:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        answer = Answer(head, "open")
        if answer.status >= 200:
            break
    if is_head:
        return answer, b""
    if answer.field("Transfer-Encoding"):
        content = bytearray()
        while size := int(await peer.reader.readuntil(b"\r\n"), 16):
            content += (await peer.reader.readexactly(size + 2))[:-2]
        assert await peer.reader.readexactly(2) == b"\r\n"
        return answer, bytes(content)
    if lengths := answer.field("Content-Length"):
        return answer, await peer.reader.readexactly(int(lengths[0]))
    return answer, await peer.reader.read()


def check(
    answer: Answer, content: bytes, expected: bytes, *, is_enforced: bool = True, status: int = 200
) -> None:
    assert answer.status == status, (answer.head, content[:200])
    assert content == expected, (answer.head, len(content), len(expected))
    check_fields(answer, is_enforced=is_enforced)


def check_fields(answer: Answer, *, is_enforced: bool) -> None:
    assert answer.is_protected == is_enforced, answer.head
    if not is_enforced:
        assert answer.field("Cache-Control") == [b"public, max-age=60"], answer.head
        assert answer.field("ETag") == [b'"v1"'], answer.head


async def keep_alive(traffic: Traffic, rng: random.Random) -> None:
    """A browser: many requests of all kinds on one connection."""
    async with traffic.connected() as peer:
        for _ in range(50):
            kind = rng.choice(("sized", "sized", "sized", "chunked", "unframed", "hinted", "talkative"))
            size, offset = rng.choice((0, 1, 300, 5000, 70_000)), rng.randrange(OFFSETS)
            is_head, is_enforced = rng.random() < 0.1, rng.random() < 0.7
            method, fields = ("HEAD" if is_head else "GET"), (XHR_LINE if is_enforced else b"")
            await peer.send(head_of(kind, size, offset, method=method, fields=fields))
            answer, content = await read_answer(peer, is_head=is_head)
            expected = b"" if is_head else part(size, offset)
            check(answer, content, expected, is_enforced=is_enforced)
            traffic.done[kind] += 1
            if traffic.is_over.is_set():
                return


async def pipeline(traffic: Traffic, rng: random.Random) -> None:
    wanted = [(rng.choice((1, 300, 5000)), rng.randrange(OFFSETS)) for _ in range(20)]
    async with traffic.connected() as peer:
        await peer.send(b"".join(head_of("sized", *each) for each in wanted))
        for each in wanted:
            check(*await read_answer(peer), part(*each))
            traffic.done["pipelined"] += 1


async def one_connection_each(traffic: Traffic, rng: random.Random) -> None:
    size, offset = rng.randrange(2000), rng.randrange(OFFSETS)
    async with traffic.connected() as peer:
        await peer.send(head_of("sized", size, offset, fields=XHR_LINE + b"Connection: close\r\n"))
        check(*await read_answer(peer), part(size, offset))
        assert await peer.reader.read() == b""
    traffic.done["connections"] += 1


async def post(traffic: Traffic, rng: random.Random) -> None:
    """Content in both framings, at once or slowly, comes back."""
    async with traffic.connected() as peer:
        for _ in range(20):
            content = part(rng.choice((1, 5000, 300_000)), rng.randrange(OFFSETS))
            is_chunked, is_slow = rng.random() < 0.5, rng.random() < 0.2
            framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(content)
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if is_chunked else content
            whole = head_of("sized", 0, 0, method="POST", fields=XHR_LINE + framing + b"\r\n") + data
            await send(peer, whole, pieces=10 if is_slow else 1)
            check(*await read_answer(peer), content)
            traffic.done["slow post" if is_slow else "post"] += 1
            if traffic.is_over.is_set():
                return


async def ask_for_late_content(traffic: Traffic, rng: random.Random) -> None:
    """HEADs to an app that sends content after them: that belongs to nobody."""
    async with traffic.connected() as peer:
        for _ in range(10):
            size, offset, is_head = rng.choice((30, 5000)), rng.randrange(OFFSETS), rng.random() < 0.5
            await peer.send(head_of("late", size, offset, method="HEAD" if is_head else "GET"))
            answer, content = await read_answer(peer, is_head=is_head)
            check(answer, content, b"" if is_head else part(size, offset))
            traffic.done["HEAD with late content" if is_head else "late content"] += 1


async def leave_an_upload_unread(traffic: Traffic, rng: random.Random) -> None:
    """Uploads to an app that answers at once and takes the content for the next request."""
    size, offset = rng.choice((30, 5000)), rng.randrange(OFFSETS)
    async with traffic.connected() as peer:
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET)
        fields = XHR_LINE + b"Transfer-Encoding: chunked\r\n"
        await peer.send(head_of("unread", size, offset, method="POST", fields=fields) + content)
        check(*await read_answer(peer), part(size, offset))
    traffic.done["unread upload"] += 1


async def log_in(traffic: Traffic, rng: random.Random) -> None:
    """NTLM authenticates the connection; nobody else gets it, and it is kept until the client leaves."""
    user = b"%08x" % rng.getrandbits(32)

    async def ask(peer: Peer, *step: bytes) -> Answer:
        size, offset = rng.choice((30, 5000)), rng.randrange(OFFSETS)
        fields = XHR_LINE + b"".join(b"Authorization: NTLM %b %b\r\n" % (each, user) for each in step)
        await peer.send(head_of("who", size, offset, fields=fields))
        answer, content = await read_answer(peer)
        check(answer, content, part(size, offset), status=answer.status)
        return answer

    async with traffic.connected() as peer:
        answer = await ask(peer)
        assert (answer.status, answer.field("X-User")) == (401, []), answer.head
        assert (await ask(peer, b"one")).field("WWW-Authenticate") == [b"NTLM challenge"]
        for step in ([b"three"], [], [], []):
            answer = await ask(peer, *step)
            assert (answer.status, answer.field("X-User")) == (200, [user]), answer.head
            await asyncio.sleep(0)
    traffic.done["log-in"] += 1


async def send(peer: Peer, data: bytes, *, pieces: int) -> None:
    step = -(-len(data) // pieces)
    for start in range(0, len(data), step):
        await peer.send(data[start : start + step])
        if pieces > 1:
            await asyncio.sleep(0.01)


async def read_slowly(traffic: Traffic, rng: random.Random) -> None:
    """More than the kernel's buffers hold, by a client that takes its time."""
    size, offset = 2_000_000, rng.randrange(OFFSETS)
    async with traffic.connected(receive_buffer=16_384) as peer:
        await peer.send(head_of(rng.choice(("sized", "chunked")), size, offset))
        pausing = asyncio.ensure_future(_pause_reading(peer))
        try:
            check(*await read_answer(peer), part(size, offset))
        finally:
            pausing.cancel()
    traffic.done["slow reader"] += 1


async def _pause_reading(peer: Peer) -> None:
    transport = peer.writer.transport
    for _ in range(20):
        await asyncio.sleep(0.01)
        transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)
        transport.resume_reading()  # type: ignore[attr-defined]


async def ask_a_slow_app(traffic: Traffic, rng: random.Random) -> None:
    size, offset = rng.randrange(5000), rng.randrange(OFFSETS)
    async with traffic.connected() as peer:
        await send(peer, head_of("slow", size, offset), pieces=3)
        check(*await read_answer(peer), part(size, offset))
    traffic.done["slow app"] += 1


async def ask_a_broken_app(traffic: Traffic, rng: random.Random) -> None:
    """What is refused is a protected 502 on a connection that lives on; what is cut never ends cleanly."""
    kind = rng.choice((*CUT, *REFUSED))
    async with traffic.connected() as peer:
        await peer.send(head_of(kind, 20_000, rng.randrange(OFFSETS)))
        if kind in REFUSED:
            answer, content = await read_answer(peer)
            check(answer, content, content, status=502)
            await peer.send(head_of("sized", 10, 10))
            check(*await read_answer(peer), part(10, 10))
        else:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                answer, content = await read_answer(peer)
                raise AssertionError(f"clean end of a response that was cut ({kind}): {answer.head!r}")
    traffic.done[kind] += 1


async def break_off(traffic: Traffic, rng: random.Random) -> None:
    """A client that leaves in the middle of something, with a close or a reset."""
    whole = head_of("sized", 2_000_000, rng.randrange(OFFSETS))
    upload = head_of("sized", 0, 0, method="POST", fields=b"Content-Length: 100000\r\n")
    kind = rng.choice(("head", "request", "upload", "download", "wait", "pipeline", "tunnel", "handshake"))
    async with traffic.connected() as peer:
        if kind == "head":
            await peer.send(whole[: rng.randrange(1, len(whole))])
        elif kind in ("request", "download"):
            await peer.send(whole)
            if kind == "download":
                await peer.reader.readexactly(rng.randrange(1, 500_000))
        elif kind == "upload":
            await peer.send(upload + b"x" * rng.randrange(100_000))
        elif kind == "wait":
            await peer.send(head_of("never", 0, 0))
            await asyncio.sleep(rng.random() * 0.01)
        elif kind == "pipeline":
            await peer.send(head_of("sized", 50_000, 0) * 20)
            await peer.reader.readexactly(60_000)
        elif kind == "tunnel":
            await peer.send(
                head_of("tunnel", 0, 0, fields=b"Connection: Upgrade\r\nUpgrade: echo\r\n") + b"early"
            )
            await peer.reader.readuntil(b"\r\n\r\nearly")
        if kind != "handshake" and rng.random() < 0.7:
            peer.reset()
    traffic.done[f"left: {kind}"] += 1


async def talk_nonsense(traffic: Traffic, rng: random.Random) -> None:
    nonsense = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP at all\r\n\r\n",
        head_of("sized", 0, 0, method="POST", fields=b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        head_of("sized", 0, 0, fields=b"Host: other\r\n"),
        head_of("sized", 0, 0, method="POST", fields=b"Transfer-Encoding: chunked\r\n") + b"nonsense\r\n",
    )
    async with traffic.connected() as peer:
        await peer.send(rng.choice(nonsense))
        answer, content = await read_answer(peer)
        check(answer, content, content, status=400)
        assert await peer.reader.read() == b""
    traffic.done["nonsense"] += 1


async def tunnel(traffic: Traffic, rng: random.Random) -> None:
    """An echo of pieces of all sizes, closed from this side by halves."""
    fields = XHR_LINE + b"Connection: Upgrade\r\nUpgrade: echo\r\n"
    async with traffic.connected() as peer:
        await peer.send(head_of("tunnel", 0, 0, fields=fields))
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        for _ in range(20):
            data = part(rng.choice((1, 100, 10_000, 200_000)), rng.randrange(OFFSETS))
            writing = asyncio.ensure_future(peer.send(data))
            assert await peer.reader.readexactly(len(data)) == data
            await writing
        peer.half_close()
        assert await peer.reader.read() == b""
    traffic.done["tunnel"] += 1


STEPS: Iterable[Step] = (
    *[keep_alive] * 4,
    *[ask_for_late_content] * 2,
    *[log_in] * 2,
    leave_an_upload_unread,
    *[post] * 2,
    *[break_off] * 2,
    *[read_slowly] * 2,
    *[ask_a_slow_app] * 2,
    *[tunnel] * 2,
    *(pipeline, one_connection_each, ask_a_broken_app, talk_nonsense),
)
KINDS = {
    *("sized", "chunked", "unframed", "hinted", "talkative", "pipelined", "connections", "post", "slow post"),
    *("HEAD with late content", "late content", "unread upload", "log-in"),
    *("slow reader", "slow app", "nonsense", "tunnel", *CUT, *REFUSED),
}
"""What `Traffic.done` counts in any run of some seconds."""
