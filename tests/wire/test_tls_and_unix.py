"""Apps behind TLS and Unix sockets, and clients on one: `--upstream` and `--listen`.

An `https://` app is verified, name and all, by the system's authorities or by `--upstream-ca`; there is no way to
switch that off.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.support.gateway import Bench, bench
from tests.support.peer import XHR_LINE, Answer, Peer
from tests.support.streams import MIB, read_some, send_megabytes
from tests.support.upstream import Script, answering, scripted
from tests.support.waiting import until

GET = b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n" + XHR_LINE + b"\r\n"
POST = GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello")
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])


async def echoing(peer: Peer) -> None:
    await peer.read_head()
    await peer.send(SWITCH)
    while data := await peer.reader.read(65536):
        await peer.send(data)


async def mirroring(peer: Peer) -> None:
    """Send a request's chunked content back as it comes."""
    await peer.read_head()
    await peer.send(b"HTTP/1.1 200 OK\r\n" + CHUNKED)
    while part := await read_some(peer, 1, chunked=True):
        await peer.send(b"%x\r\n%b\r\n" % (len(part), part))
    await peer.send(b"0\r\n\r\n")


async def breaking_off(peer: Peer) -> None:
    await peer.read_head()
    await peer.send(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5\r\nhello\r\n")
    peer.writer.transport.abort()


class Authority:
    """Makes certificates.

    Attributes:
        path: of its own, as `--upstream-ca` takes it.
        names: that clients asked for in their handshakes (SNI).
    """

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self.path = directory / f"{id(self)}.pem"
        self._authority.cert_pem.write_to_path(self.path)
        self.names: list[str | None] = []

    def context(self, *names: str, **issued: dt.datetime) -> ssl.SSLContext:
        """A server's, with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names, **issued).configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.sni_callback = lambda _connection, name, _context: self.names.append(name)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Test_App_behind_TLS:
    @pytest.mark.parametrize(("host", "sni"), [("localhost", "localhost"), ("127.0.0.1", None)])
    async def test_that_has_the_name_s_certificate_is_spoken_to(self, authority, host, sni):
        """By name or by address; it is asked for HTTP/1.1, and gets the `Host` of the client."""
        authority.names.clear()
        chosen: list[str | None] = []

        async def script(peer: Peer) -> None:
            chosen.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
            await answering()(peer)

        async with (
            scripted(script, tls=authority.context(host)) as app,
            bench(upstream=f"https://{host}:{app.port}", upstream_ca=authority.path) as b,
        ):
            for request in (GET, GET, POST, POST):
                answer = await b.exchange(request)
                assert (answer.status, answer.content, answer.is_protected) == (200, b"ok", True)
            assert app.connections == 2, "the app was not seen yet to keep a connection after content"
            assert app.contents == [b"", b"", b"hello", b"hello"]
            assert all(b"\r\nHost: app.example\r\n" in head for head in app.heads)
        assert set(chosen) == {"http/1.1"}
        assert set(authority.names) == {sni}

    @pytest.mark.parametrize(
        "case", ["another authority", "no authority", "another name", "out of date", "no address"]
    )
    async def test_whose_certificate_does_not_fit_gets_nothing(self, authority, tmp_path, case):
        """502, and not a byte of the request has left."""
        name = {"another name": "other.example", "no address": "127.0.0.1"}.get(case, "localhost")
        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        dates = (
            {"not_before": past, "not_after": past + dt.timedelta(days=1)} if case == "out of date" else {}
        )
        trusted = {"another authority": Authority(tmp_path).path, "no authority": None}.get(
            case, authority.path
        )
        async with (
            scripted(tls=authority.context(name, **dates)) as app,
            bench(upstream=f"https://localhost:{app.port}", upstream_ca=trusted) as b,
        ):
            for request in (GET, POST):
                answer = await b.exchange(request)
                assert (answer.status, answer.is_protected) == (502, True)
                assert answer.field("Proxy-Status") == [b"nocache-proxy; error=tls_certificate_error"]
            assert b.gateway.stats.upstream_errors == {"tls_error": 2}
            assert await b.gateway.probe_upstream() is not None
            assert app.heads == []

    @pytest.mark.parametrize(("said", "status"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", 502), (b"", 504)])
    async def test_that_speaks_no_tls_gets_nothing(self, authority, said, status):
        """It may answer what it takes for garbage, or wait for the end of it."""
        received: list[bytes] = []

        async def script(peer: Peer) -> None:
            received.append(await peer.reader.read(65536))
            await peer.send(said)
            received.append(await peer.reader.read())

        async with (
            scripted(script) as app,
            bench(
                upstream=f"https://localhost:{app.port}", upstream_ca=authority.path, connect_timeout_s=0.5
            ) as b,
        ):
            answer = await b.exchange(GET)
            assert (answer.status, answer.is_protected) == (status, True)
            assert answer.field("Proxy-Status")
        assert received
        assert not any(b"HTTP/1" in data for data in received)

    @PIECES
    async def test_streams_both_ways(self, authority, piece):
        content = b"hello, " * (10 if piece else 1_000_000)
        async with (
            scripted(mirroring, tls=authority.context("localhost")) as app,
            bench(upstream=f"https://localhost:{app.port}", upstream_ca=authority.path) as b,
        ):
            peer = await b.connect()
            request = (
                b"POST / HTTP/1.1\r\nHost: a\r\n"
                + CHUNKED
                + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
            )
            sending = asyncio.create_task(peer.send(request, piece=piece))
            await peer.read_head()
            assert await read_some(peer, len(content), chunked=True) == content
            await sending
            # Whether it is kept open afterwards depends on what came first, the request's end or the response's head.
            assert await peer.read_exactly(5) == b"0\r\n\r\n"

    async def test_that_breaks_off_breaks_the_client_off(self, authority):
        async with (
            scripted(breaking_off, tls=authority.context("localhost")) as app,
            bench(upstream=f"https://localhost:{app.port}", upstream_ca=authority.path) as b,
        ):
            answer = await b.exchange(GET)
            assert answer.end == "reset"
            assert b"0\r\n\r\n" not in answer.data
            assert b.gateway.stats.upstream_errors == {"upstream_truncated": 1}

    @pytest.mark.parametrize("is_notified", [True, False], ids=["close_notify", "no close_notify"])
    @pytest.mark.parametrize("framing", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
    async def test_that_ends_without_a_close_notify_has_ended_only_what_its_framing_ends(
        self, authority, framing, is_notified
    ):
        """RFC 9112 section 9.8: anybody on the way can end a TCP connection, but not forge the alert."""
        has_arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.read_head()
            content = b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in framing else b"hello"
            await peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + framing + b"\r\n" + content)
            await has_arrived.wait()
            peer.writer.close() if is_notified else peer.writer.transport.abort()

        async with (
            scripted(script, tls=authority.context("localhost")) as app,
            bench(upstream=f"https://localhost:{app.port}", upstream_ca=authority.path) as b,
        ):
            peer = await b.connect()
            await peer.send(GET)
            head = await peer.read_head()
            assert await read_some(peer, 5, chunked=b"chunked" in head) == b"hello"
            has_arrived.set()
            answer = await peer.read_to_end()
            is_whole = bool(framing) or is_notified
            assert answer.end == ("closed" if is_whole else "reset")
            assert answer.data == (b"0\r\n\r\n" if is_whole and b"chunked" in head else b"")
            await b.settled()
            assert b.gateway.stats.upstream_errors == ({} if is_whole else {"upstream_truncated": 1})

    @pytest.mark.parametrize(
        ("framing", "is_notified"),
        [(b"", True), (b"Content-Length: 100000\r\n", True), (b"Content-Length: 100000\r\n", False)],
    )
    async def test_that_ends_before_its_client_has_read_loses_nothing_of_the_response(
        self, authority, framing, is_notified
    ):
        """The event loop ends a TLS connection that is not read from, whatever it still holds."""
        is_asked, is_to_send, has_sent = asyncio.Event(), asyncio.Event(), asyncio.Event()
        content = b"0123456789" * 10_000

        async def script(peer: Peer) -> None:
            await peer.read_head()
            is_asked.set()
            await is_to_send.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
            peer.writer.transport.set_write_buffer_limits(0)
            await peer.send(content)
            if is_notified:
                peer.writer.close()
                for _ in range(3):  # turns, until the alert has left; then nothing is waited for
                    await asyncio.sleep(0)
            peer.writer.transport.abort()
            has_sent.set()

        async with (
            scripted(script, tls=authority.context("localhost")) as app,
            bench(upstream=f"https://localhost:{app.port}", upstream_ca=authority.path) as b,
        ):
            peer = await b.connect()
            await peer.send(GET)
            await is_asked.wait()
            (connection,) = b.gateway.clients
            connection.pause_writing()  # as the transport says when it is full
            upstream = connection.exchange._upstream
            is_to_send.set()
            await has_sent.wait()
            await until(upstream.transport.is_closing)
            connection.resume_writing()
            is_chunked = b"chunked" in await peer.read_head()
            assert await read_some(peer, len(content), chunked=is_chunked) == content
            assert await peer.read_to_end() == Answer(b"0\r\n\r\n" if is_chunked else b"", "closed")
            await b.settled()
            assert b.gateway.stats.upstream_errors == {}
            assert b.gateway.stats.upstream_connections == 0

    async def test_may_switch_protocols(self, authority):
        """TLS knows no half-close: the end of one direction is the end of the tunnel."""
        async with (
            scripted(echoing, tls=authority.context("localhost")) as app,
            bench(upstream=f"https://localhost:{app.port}", upstream_ca=authority.path) as b,
        ):
            peer = await b.connect()
            await peer.send(UPGRADE + b"early")
            await peer.read_head()
            assert await peer.read_exactly(5) == b"early"
            peer.half_close()
            assert (await peer.read_to_end()).data == b""
            await b.settled()
            assert b.gateway.stats.upstream_errors == {}


class Test_App_on_a_Unix_socket:
    @PIECES
    async def test_is_spoken_to(self, tmp_path, piece):
        path = tmp_path / "app"
        async with scripted(path=path) as app, bench(upstream=f"unix:{path}") as b:
            for request in (GET, POST):
                answer = await b.exchange(request, piece=piece)
                assert (answer.status, answer.is_protected) == (200, True)
            assert (await b.exchange(b"GET / HTTP/1.0\r\n\r\n", piece=piece)).status == 200
            assert [b"\r\nHost: app.example\r\n" in head for head in app.heads] == [True, True, False]
            assert b"\r\nHost: localhost\r\n" in app.heads[2]
            assert app.contents == [b"", b"hello", b""]
            assert app.connections == 2, "the app was not seen yet to keep a connection for a POST"

    @pytest.mark.parametrize("is_file", [True, False])
    async def test_that_is_not_there_is_a_502(self, tmp_path, is_file):
        """Also where there is a file of that name, or a socket that nobody listens on any more."""
        path = tmp_path / "app"
        if is_file:
            with socket.socket(socket.AF_UNIX) as left_behind:
                left_behind.bind(str(path))
        async with bench(upstream=f"unix:{path}") as b:
            for _ in range(2):
                answer = await b.exchange(GET)
                assert (answer.status, answer.is_protected) == (502, True)
                assert answer.field("Proxy-Status") == [b"nocache-proxy; error=connection_refused"]
            async with scripted(path=path):
                assert (await b.exchange(GET)).status == 200

    async def test_carries_tunnels_and_their_half_close(self, tmp_path):
        path = tmp_path / "app"

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(SWITCH)
            received = await peer.reader.read()
            await peer.send(received[::-1])

        async with scripted(upstream, path=path), bench(upstream=f"unix:{path}") as b:
            peer = await b.connect()
            await peer.send(UPGRADE + b"early")
            await peer.read_head()
            peer.half_close()
            assert (await peer.read_to_end()) == Answer(b"ylrae", "closed")


@asynccontextmanager
async def unix_bench(path: Path, script: Script | None = None) -> AsyncIterator[Bench]:
    """A bench whose gateway listens on a Unix socket too."""
    async with bench(script) as b:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            b.gateway.context.clock.stop()
            await b.gateway.start([listening])
            yield b


class Test_Client_on_a_Unix_socket:
    @PIECES
    async def test_is_served_like_any_other(self, tmp_path, piece):
        """And trusted, as whoever may open the socket: what it says of others' addresses is added to."""
        path = tmp_path / "listen"
        async with unix_bench(path) as b:
            peer = await b.connect(path)
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n", piece=piece)
            assert (await peer.read_response()).is_protected
            await peer.send(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"), piece=piece)
            answer = await peer.read_to_end()
            assert (answer.status, answer.is_protected, answer.end) == (200, True, "closed")
            assert b"X-Forwarded-For" not in b.recorder.heads[0]
            assert b"\r\nX-Forwarded-For: 192.0.2.1\r\n" in b.recorder.heads[1]

    @pytest.mark.parametrize("framing", [CHUNKED + b"5\r\nhello\r\n", b"Content-Length: 10\r\n\r\nhello"])
    async def test_can_tell_that_a_response_was_cut(self, tmp_path, framing):
        """There is no reset: the framing tells."""

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(b"HTTP/1.1 200 OK\r\n" + framing)

        path = tmp_path / "listen"
        async with unix_bench(path, upstream) as b:
            peer = await b.connect(path)
            await peer.send(GET)
            answer = await peer.read_to_end()
            assert answer.status == 200
            assert b"0\r\n\r\n" not in answer.data
            assert answer.content.count(b"hello") <= 1
            await b.settled()
            assert b.gateway.stats.upstream_errors == {"upstream_truncated": 1}

    async def test_sends_and_takes_much(self, tmp_path):
        path = tmp_path / "listen"
        async with unix_bench(path, mirroring) as b:
            peer = await b.connect(path)
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED)
            sending = asyncio.create_task(send_megabytes(peer, 4, chunked=True))
            await peer.read_head()
            received = await read_some(peer, 4 * MIB, chunked=True)
            assert received == b"".join(b"%08d" % number * (MIB // 8) for number in range(4))
            await sending

    async def test_carries_tunnels_and_their_half_close(self, tmp_path):
        path = tmp_path / "listen"
        async with unix_bench(path, echoing) as b:
            peer = await b.connect(path)
            await peer.send(UPGRADE + b"early")
            await peer.read_head()
            assert await peer.read_exactly(5) == b"early"
            peer.half_close()
            assert (await peer.read_to_end()) == Answer(b"", "closed")
            await until(lambda: b.gateway.stats.tunnels == 0)
