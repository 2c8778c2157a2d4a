"""Who asked whom for what: the forwarding fields that reach the app, by mode and by whether the peer is trusted.

Issue 14.9 and 14.14, issue 16.7, 16.8 and 16.21.
"""

from __future__ import annotations

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidSchemeHeaders
from gunicorn.http.parser import RequestParser

from proxy.message.forwarding import FAMILY, PATH_FIELDS, SCHEME_FIELDS, Peer
from proxy.message.request import RequestTable, render_request

CLIENT = Peer(b"203.0.113.7")
TRUSTED = Peer(b"10.0.0.1", is_trusted=True)
ON_A_SOCKET = Peer(is_trusted=True)
FRESH = [b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: app"]


def read(
    *lines: bytes,
    mode="append",
    peer=TRUSTED,
    names=(),
    host=b"Host: app",
    start=b"GET / HTTP/1.1",
    via="off",
):
    head = b"\r\n".join([start, *filter(None, [host]), *lines, b"", b""])
    return RequestTable(names, authority=b"upstream:1", forwarding=mode, via=via).read(head, peer)


def forwarded(*lines: bytes, **how) -> list[bytes]:
    """What the app gets after the request line and `Host`."""
    data, _ = render_request(read(*lines, **how), strips_conditionals=False)
    return data[:-4].split(b"\r\n")[2:]


class Test_Of_a_trusted_peer:
    @pytest.mark.parametrize("name", SCHEME_FIELDS)
    def test_no_scheme_is_written_beside_one_that_came(self, name):
        """Whatever its value: `off` beside `http` need not mean the same to the app."""
        said = name + b": on"
        assert forwarded(said) == [said, b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Host: app"]

    @pytest.mark.parametrize(
        "said", [b"X-Forwarded-Ssl: on", b"X-Forwarded-Protocol: ssl", b"X-Forwarded-Proto: https"]
    )
    def test_gunicorn_takes_what_reaches_it(self, said):
        """It answers 400 to schemes that contradict each other: to every request behind such an edge."""
        data, _ = render_request(read(said), strips_conditionals=False)
        (request,) = RequestParser(Config(), iter([data]), ("127.0.0.1", 1))
        assert request.scheme == "https"
        with pytest.raises(InvalidSchemeHeaders):  # that it would tell
            next(
                RequestParser(
                    Config(),
                    iter([data.replace(said, said + b"\r\nX-Forwarded-Proto: http")]),
                    ("127.0.0.1", 1),
                )
            )

    @pytest.mark.parametrize(
        ("said", "added"),
        [
            (b"Forwarded: for=192.0.2.1;Proto=https", [b"X-Forwarded-Host: app"]),
            (b'Forwarded: for=192.0.2.1;host="a.example"', [b"X-Forwarded-Proto: http"]),
            (b"Forwarded: for=192.0.2.1;proto=https;host=a", []),
            (b"X-Forwarded-Host: a.example", [b"X-Forwarded-Proto: http"]),
            (b"X-Original-Host: a.example", [b"X-Forwarded-Proto: http"]),
            (b"X-Real-IP: 192.0.2.1", [b"X-Forwarded-Proto: http", b"X-Forwarded-Host: app"]),
        ],
    )
    def test_what_it_said_stays_as_it_is_and_is_not_contradicted(self, said, added):
        assert forwarded(said) == [said, b"X-Forwarded-For: 10.0.0.1", *added]

    def test_chain_leaves_in_one_line_with_its_address_at_the_end(self):
        chain = [b"X-Forwarded-For: 192.0.2.1", b"A: b", b"x-forwarded-for: 192.0.2.2, unknown"]
        assert forwarded(*chain)[:2] == [b"A: b", b"X-Forwarded-For: 192.0.2.1, 192.0.2.2, unknown, 10.0.0.1"]

    @pytest.mark.parametrize("said", [[], [b"X-Forwarded-Proto: https"]])
    def test_via_follows_whatever_was_said(self, said):
        assert forwarded(*said, via="on")[-1] == b"Via: 1.1 nocache-proxy"

    def test_peer_on_a_unix_socket_adds_no_address(self):
        """Issue 16.8: `unix:` is no address to any app that reads them."""
        assert forwarded(peer=ON_A_SOCKET) == FRESH[1:]
        chain = [b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-For: 192.0.2.2"]
        assert forwarded(*chain, peer=ON_A_SOCKET) == [*chain, *FRESH[1:]]

    @pytest.mark.parametrize("name", sorted(FAMILY))
    def test_connection_option_of_its_client_takes_nothing_away(self, name):
        """A simple proxy passes `Connection` on; its client must not choose what the app is told."""
        said = name + b": x"
        lines = forwarded(b"Connection: close, " + name, said)
        assert said in lines or lines[0] == b"X-Forwarded-For: x, 10.0.0.1"

    def test_client_that_names_no_host_has_asked_for_none(self):
        assert forwarded(host=b"", start=b"GET / HTTP/1.0", peer=CLIENT) == FRESH[:2]


class Test_Of_any_other_peer:
    @pytest.mark.parametrize(
        "name",
        [
            *sorted(FAMILY),
            b"X-Forwarded-Port",
            b"X-Forwarded-User",
            b"X-FORWARDED-ANYTHING",
            b"Front-End-Https",
        ],
    )
    def test_the_whole_family_is_dropped(self, name):
        """Issue 14.9 and 14.14: whatever some app reads in the place of `X-Forwarded-*`."""
        request = read(b"A: b", name + b": 1", name + b": 2", peer=CLIENT)
        assert request.distrusted == 2
        data, _ = render_request(request, strips_conditionals=False)
        assert data[:-4].split(b"\r\n")[2:] == [b"A: b", *FRESH]

    @pytest.mark.parametrize("underscores", ["drop", "keep"])
    def test_alias_with_underscores_goes_too(self, underscores):
        head = b"GET / HTTP/1.1\r\nHost: app\r\nX_Real_IP: 1\r\nX-Forwarded_Any: 2\r\n\r\n"
        for mode in ("append", "replace", "off"):
            request = RequestTable((), underscores, forwarding=mode).read(head, CLIENT)
            data, _ = render_request(request, strips_conditionals=False)
            assert b"_" not in data

    def test_field_that_only_sounds_alike_passes(self):
        lines = [b"X-Forward: 1", b"Forward: 2", b"X-Real: 3", b"X-Scheme-Name: 4"]
        request = read(*lines, peer=CLIENT)
        assert request.distrusted == 0
        assert forwarded(*lines, peer=CLIENT) == [*lines, *FRESH]


class Test_Modes:
    def test_replace_believes_nobody(self):
        said = [name + b": x" for name in sorted(FAMILY)]
        assert forwarded(*said, mode="replace") == [b"X-Forwarded-For: 10.0.0.1", *FRESH[1:]]

    @pytest.mark.parametrize("peer", [CLIENT, TRUSTED])
    def test_off_leaves_all_to_others(self, peer):
        said = [name + b": x" for name in sorted(FAMILY)]
        assert forwarded(*said, mode="off", peer=peer) == said
        assert read(*said, mode="off", peer=peer).distrusted == 0


class Test_Rules_read_what_the_app_gets:
    """Issue 16.21: a client must not be excepted for what never reaches the app."""

    NAMES = (
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-real-ip",
        *PATH_FIELDS,
        b"accept",
    )
    SAID = tuple(name + b": x" for name in NAMES)

    def test_of_a_client(self):
        rest = (None,) * (1 + len(PATH_FIELDS))
        ours = (b"203.0.113.7", b"http", b"app")
        assert read(*self.SAID, peer=CLIENT, names=self.NAMES).values == (*ours, *rest, b"x")
        assert read(peer=CLIENT, names=self.NAMES).values == (*ours, *rest, None)

    def test_of_a_trusted_peer(self):
        rest = (b"x",) * (len(self.NAMES) - 1)
        assert read(*self.SAID, names=self.NAMES).values == (b"x, 10.0.0.1", *rest)
        assert read(peer=ON_A_SOCKET, names=self.NAMES).values[:3] == (None, b"http", b"app")

    def test_where_nothing_is_touched(self):
        assert set(read(*self.SAID, names=self.NAMES, peer=CLIENT, mode="off").values) == {b"x"}
