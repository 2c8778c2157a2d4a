"""Which fields the app gets of a request, and the client of a response, besides those that they sent each other.

Over sockets: `Host`, `Via` and the forwarding fields by `--forwarded` and `--trusted-proxies`; of
responses `Date` and `Connection`, and nothing that the gateway made up.
"""

from __future__ import annotations

from typing import Any

import pytest

from proxy.settings import parse_networks
from tests.support.gateway import bench
from tests.support.strict_reader import read_requests, read_responses
from tests.support.upstream import answering

PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT"
OURS = [b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a"]
THEIRS = [
    b"X-Forwarded-For: 192.0.2.1",
    b"x-forwarded-proto: https",
    b"X-Forwarded-Host: shop.example",
    b"Forwarded: for=192.0.2.1",
]
ADDED = [*THEIRS[1:], b"X-Forwarded-For: 192.0.2.1, 127.0.0.1"]
CHAIN = [b"X-Forwarded-For: 192.0.2.1", b"X-FORWARDED-FOR: 192.0.2.2, 192.0.2.3"]
TRUSTS: dict[str, dict[str, Any]] = {
    "trusted": {},  # as any loopback address is
    "untrusted": {"trusted_proxies": parse_networks("203.0.113.0/24")},
    "trusted by name": {"trusted_proxies": parse_networks("203.0.113.0/24,127.0.0.0/8")},
}


async def forwarded(
    *lines: bytes, start: bytes = b"GET / HTTP/1.1", piece: int = 0, **settings: Any
) -> list[bytes]:
    """The lines of what the app gets of a request."""
    async with bench(rules=(), **settings) as b:
        request = b"\r\n".join([start, *lines, b"Connection: close", b"", b""])
        assert (await b.exchange(request, piece=piece)).status == 200
        (head,) = b.recorder.heads
        read_requests(head)
        return head[:-4].split(b"\r\n")


class Test_Forwarding_fields:
    @PIECES
    @pytest.mark.parametrize(
        ("mode", "trust", "sent", "expected"),
        [
            ("append", "trusted", [], OURS),
            ("append", "trusted", THEIRS, ADDED),
            ("append", "trusted by name", THEIRS, ADDED),
            ("append", "untrusted", [], OURS),
            ("append", "untrusted", THEIRS, OURS),
            ("replace", "trusted", [], OURS),
            ("replace", "trusted", THEIRS, OURS),
            ("replace", "untrusted", THEIRS, OURS),
            ("off", "trusted", [], []),
            ("off", "trusted", THEIRS, THEIRS),
            ("off", "untrusted", THEIRS, THEIRS),
        ],
    )
    async def test_each_mode_says_who_asked_as_far_as_it_trusts_them(
        self, piece, mode, trust, sent, expected
    ):
        """`append` believes trusted peers, `replace` nobody; `off` leaves all to the proxy in front."""
        lines = await forwarded(b"Host: a", *sent, b"B: c", piece=piece, forwarded=mode, **TRUSTS[trust])
        theirs = [line for line in expected if line in sent]
        ours = [line for line in expected if line not in theirs]
        assert lines[1:] == [b"Host: a", *theirs, b"B: c", *ours]

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            ("append", [b"X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1", *OURS[1:]]),
            ("replace", OURS),
            ("off", CHAIN),
        ],
    )
    async def test_chain_in_several_lines_becomes_one_in_its_order(self, mode, expected):
        """An app that reads the first line, or the last, reads the same as one that reads them all."""
        assert await forwarded(b"Host: a", *CHAIN, forwarded=mode) == [
            b"GET / HTTP/1.1",
            b"Host: a",
            *expected,
        ]

    @pytest.mark.parametrize("mode", ["append", "replace"])
    @pytest.mark.parametrize("option", [b"X-Forwarded-For", b"x-forwarded-host, X-Forwarded-For, Via, Host"])
    async def test_no_connection_option_takes_them_away(self, mode, option):
        """A client that could name `X-Forwarded-For` there could hide from the app who it is."""
        lines = await forwarded(b"Host: a", b"Connection: " + option, forwarded=mode)
        assert lines[1:] == [b"Host: a", *OURS]

    @pytest.mark.parametrize("underscores", ["drop", "keep"])
    @pytest.mark.parametrize("mode", ["append", "replace", "off"])
    async def test_alias_with_underscores_never_stands_beside_them(self, mode, underscores):
        """WSGI knows both as HTTP_X_FORWARDED_FOR."""
        lines = await forwarded(
            b"Host: a", b"X_Forwarded-For: 192.0.2.1", forwarded=mode, underscore_fields=underscores
        )
        assert lines[1:] == [b"Host: a", *([] if mode == "off" else OURS)]


class Test_Other_fields_of_a_request:
    @PIECES
    @pytest.mark.parametrize(
        ("start", "sent", "expected"),
        [
            pytest.param(
                b"GET / HTTP/1.1", [b"hOST:  App.Example:80 "], [b"hOST: App.Example:80"], id="Host as sent"
            ),
            pytest.param(
                b"GET / HTTP/1.1", [b"A: b", b"Host: a"], [b"A: b", b"Host: a"], id="Host in its place"
            ),
            pytest.param(b"GET http://b/ HTTP/1.0", [], [b"Host: b"], id="Host of absolute-form"),
            pytest.param(
                b"GET / HTTP/1.1",
                [b"Host: a", b"Via: 1.1 edge", b"User-Agent: x", b"Via: 1.0 b"],
                [b"Host: a", b"Via: 1.1 edge", b"User-Agent: x", b"Via: 1.0 b"],
                id="Via of others",
            ),
            pytest.param(
                b"GET / HTTP/1.1",
                [
                    b"Host: a",
                    b"Authorization: Basic eA==",
                    b"Cookie: a=b",
                    b"cookie: c=d",
                    b"Proxy-Authorization: x",
                ],
                [
                    b"Host: a",
                    b"Authorization: Basic eA==",
                    b"Cookie: a=b",
                    b"cookie: c=d",
                    b"Proxy-Authorization: x",
                ],
                id="credentials are the app's",
            ),
            pytest.param(
                b"GET / HTTP/1.1",
                [
                    b"Host: a",
                    b"Connection: Keep-Alive, x-a",
                    b"Keep-Alive: 5",
                    b"X-A: 1",
                    b"TE: trailers",
                    b"X-B: 2",
                ],
                [b"Host: a", b"X-B: 2"],
                id="of the connection only",
            ),
        ],
    )
    async def test_app_gets_what_was_sent(self, piece, start, sent, expected):
        lines = await forwarded(*sent, start=start, piece=piece, forwarded="off")
        assert lines == [b"GET / HTTP/1.1", *expected]

    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    async def test_via_is_added_where_it_is_wanted(self, version):
        """Issue 16.7: nginx behind it compresses nothing for a request with `Via` (`gzip_proxied off`)."""
        start = b"GET / HTTP/" + version
        theirs = [b"Host: a", b"Via: 1.1 edge"]
        assert await forwarded(*theirs, start=start, forwarded="off") == [b"GET / HTTP/1.1", *theirs]
        wanted = await forwarded(*theirs, start=start, forwarded="off", via="on")
        assert wanted == [b"GET / HTTP/1.1", *theirs, b"Via: " + version + b" nocache-proxy"]

    async def test_old_client_without_host_is_sent_on_under_the_name_of_the_app(self):
        """HTTP/1.1 must have one, RFC 9112 section 3.2; what it is called there is not said to have been asked for."""
        lines = await forwarded(start=b"GET / HTTP/1.0", forwarded="append")
        assert lines[1].startswith(b"Host: 127.0.0.1:")
        assert lines[2:] == OURS[:2]


class Test_Fields_of_a_response:
    @PIECES
    @pytest.mark.parametrize(
        ("version", "asked", "told"),
        [
            (b"1.1", b"", []),
            (b"1.1", b"Connection: close\r\n", [b"Connection: close"]),
            (b"1.0", b"", [b"Connection: close"]),
            (b"1.0", b"Connection: keep-alive\r\n", [b"Connection: keep-alive"]),
        ],
    )
    async def test_client_gets_what_was_sent_and_what_becomes_of_its_connection(
        self, piece, version, asked, told
    ):
        """No `Server`, `Via`, `Content-Type` or forwarding field is made up; theirs pass."""
        sent = [
            DATE,
            b"Server: x",
            b"Via: 1.1 y",
            b"X-Forwarded-For: z",
            b"Set-Cookie: a",
            b"Content-Length: 2",
        ]
        dropped = [b"Keep-Alive: 5", b"Connection: X-A", b"X-A: 1", b"Proxy-Connection: a"]
        upstream = answering(b"\r\n".join([b"HTTP/1.1 200 OK", *sent[:3], *dropped, *sent[3:], b"", b"ok"]))
        async with bench(upstream, rules=()) as b:
            peer = await b.connect()
            await peer.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + asked + b"\r\n", piece=piece)
            answer = await peer.read_response()
            assert answer.head.split(b"\r\n") == [b"HTTP/1.1 200 OK", *sent, *told]

    async def test_date_is_added_where_there_is_none(self):
        """RFC 9110 section 6.6.1; and nothing else is."""
        async with bench(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), rules=()) as b:
            answer = await b.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            (message,) = read_responses(answer.data, iter(["GET"]))
            assert [name for name, _ in message.fields] == [b"Content-Length", b"Date", b"Connection"]
            assert message.values(b"date") == [b.gateway.context.clock.date]
