"""What the access log says of a request beyond its record: the real client, the browser, where it came from, its id."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.gateway.access_log import AccessLog
from proxy.gateway.log_fields import _DIFFERENT, _REPEATED, Clients, json_renderer
from proxy.gateway.record import Record
from proxy.message.forwarding import Peer
from proxy.message.request import RequestTable
from proxy.settings import LOG_FIELDS, parse_networks
from tests.support.gateway import bench
from tests.support.waiting import until

TRUSTED = parse_networks("10.0.0.0/8,192.168.0.0/16,fd00::/8")
TRUSTED_PEER = Peer(b"10.0.0.1", is_trusted=True)
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_each_field_that_can_be_chosen_is_known_and_no_other():
    assert sorted([*_DIFFERENT, *_REPEATED]) == sorted(LOG_FIELDS)


class TestClients:
    @pytest.mark.parametrize(
        ("peer", "chain", "client"),
        [
            ("203.0.113.7", b"", "203.0.113.7"),
            ("203.0.113.7", b"198.51.100.1", "203.0.113.7"),  # who is not trusted may say what it likes
            ("10.0.0.1", b"203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", b"6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
            ("10.0.0.1", b"6.6.6.6,203.0.113.7,192.168.3.4,10.0.0.2", "203.0.113.7"),
            ("10.0.0.1", b"10.0.0.9, 10.0.0.2", "10.0.0.9"),  # all of them ours: the first
            ("10.0.0.1", b"203.0.113.7:4711", "203.0.113.7"),
            ("10.0.0.1", b"[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", b"2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", b"::ffff:203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", b"unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", b"203.0.113.7, , 10.0.0.2", "10.0.0.2"),
            ("fd00::1", b"203.0.113.7", "203.0.113.7"),
            ("fe80::1%eth0", b"203.0.113.7", "fe80::1%eth0"),
            ("10.0.0.1", b'fe80::1%"', "fe80::1"),  # `ipaddress` takes any text for a zone
            ("10.0.0.1", b"fe80::1%\xff\\", "fe80::1"),
            ("10.0.0.1", b"[fe80::1%" + b"z" * 400 + b"]:80", "fe80::1"),
            ("", b"203.0.113.7", "203.0.113.7"),  # a Unix socket
            ("", b"", ""),
        ],
    )
    def test_client_is_who_the_last_trusted_proxy_has_seen(self, peer, chain, client):
        assert Clients(TRUSTED).of(peer, [(0, chain)] if chain else []) == client

    @given(st.binary(max_size=100))
    @example(b"::%'")
    def test_any_chain_gives_an_address(self, chain):
        assert re.fullmatch(r"[0-9a-fA-F:.%a-z]+", Clients(TRUSTED).of("10.0.0.1", [(0, chain)]))


def logged(head, client="10.0.0.1") -> dict[str, object]:
    record = Record(host=head.host, client=client, request=head)
    record.let_go()
    return json.loads(json_renderer(LOG_FIELDS, TRUSTED)("now", record))


class TestRequest:
    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            (b"", {}),
            (b"User-Agent: MSIE\r\nReferer: /a?b#c\r\n", {"user_agent": "MSIE", "referer": "/a"}),
            (b"Referer: ?secret\r\n", {"referer": None}),
            (b"Referer: http://u:s3cr3t@a/b;sid=s3cr3t\r\n", {"referer": "http://(hidden)@a/b;sid=(hidden)"}),
            (b"X-Request-Id: 4711\r\ntraceparent: " + TRACE + b"\r\n", {"request_id": "4711"}),
            (b"traceparent: " + TRACE + b"\r\n", {"request_id": "4bf92f3577b34da6a3ce929d0e0e4736"}),
            (b"traceparent: 00-secret-1\r\n", {"request_id": None}),
            (
                b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 10.0.0.9\r\n",
                {"client": "203.0.113.7", "peer": "10.0.0.1"},
            ),
            (b"User-Agent: caf\xe9 \xc3\xa9\r\n", {"user_agent": "caf%E9 \xe9"}),
        ],
    )
    def test_it_is_logged_with_what_came(self, fields, found):
        head = RequestTable(forwarding="off").read(
            b"GET / HTTP/1.1\r\nHost: a:1\r\n" + fields + b"\r\n", TRUSTED_PEER
        )
        expected = dict.fromkeys(("user_agent", "referer", "request_id", "peer")) | {
            "client": "10.0.0.1",
            "host": "a:1",
        }
        assert {name: logged(head)[name] for name in expected} == {**expected, **found}

    def test_unix_socket_has_no_address(self):
        head = RequestTable().read(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n", TRUSTED_PEER
        )
        assert [logged(head, client="")[name] for name in ("client", "peer")] == ["203.0.113.7", None]

    def test_long_chain_counts_from_its_end(self):
        chain = b"x" * 5000 + b", 203.0.113.7, 10.0.0.9"
        head = RequestTable().read(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + chain + b"\r\n\r\n", TRUSTED_PEER
        )
        assert logged(head)["client"] == "203.0.113.7"


class TestRequestId:
    def read(self, fields: bytes = b"", *, names=()):
        table = RequestTable(names, makes_ids=True)
        return table.read(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")

    def test_it_is_made_where_none_came_and_is_logged_and_seen_by_rules(self):
        heads = [self.read(names=(b"x-request-id",)) for _ in range(2)]
        for head in heads:
            name, _, value = head.added[-1].partition(b": ")
            assert name == b"X-Request-Id"
            assert re.fullmatch(rb"[0-9a-f]{32}", value)
            assert logged(head)["request_id"] == value.decode()
            assert head.values == (value,)
        assert heads[0].added[-1] != heads[1].added[-1]

    @pytest.mark.parametrize("fields", [b"X-Request-Id: 4711\r\n", b"traceparent: " + TRACE + b"\r\n"])
    def test_none_is_made_where_one_came(self, fields):
        assert not any(line.startswith(b"X-Request-Id") for line in self.read(fields).added)


@pytest.mark.parametrize("makes_ids", ["off", "on"])
async def test_request_is_logged_with_who_asked(tmp_path, makes_ids):
    async with bench(request_id=makes_ids, trusted_proxies=parse_networks("127.0.0.0/8")) as b:
        trusted = parse_networks("127.0.0.0/8")
        log = AccessLog("json", tmp_path / "log", trusted=trusted)
        b.gateway.context.recorder.access_log = log
        peer = await b.connect()
        await peer.send(
            b"GET / HTTP/1.1\r\nHost: app.example\r\nUser-Agent: MSIE\r\nReferer: http://a/b?secret\r\n"
            b"Cookie: secret\r\nAuthorization: secret\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
        )
        await peer.read_response()
        await until(lambda: b.gateway.stats.requests)
        log.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    logged = json.loads(line)
    assert "secret" not in line
    assert {name: logged[name] for name in ("client", "peer", "host", "user_agent", "referer")} == {
        "client": "203.0.113.7",
        "peer": "127.0.0.1",
        "host": "app.example",
        "user_agent": "MSIE",
        "referer": "http://a/b",
    }
    if makes_ids == "on":
        assert b"X-Request-Id: " + logged["request_id"].encode() in b.recorder.heads[0]
    else:
        assert logged["request_id"] is None
        assert b"X-Request-Id" not in b.recorder.heads[0]
