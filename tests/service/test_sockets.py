"""The contract of listening: an address that cannot be had is told at once, in words that name it."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from proxy.service import sockets
from proxy.service.sockets import ListenError, bind, reaches
from proxy.settings import Address, Upstream


@pytest.fixture
def unix(tmp_path, monkeypatch) -> Address:
    """A path that is short enough for a socket, wherever the tests run."""
    monkeypatch.chdir(tmp_path)
    return Address(path=Path("s"))


def test_port_that_is_taken_is_told():
    with closing(bind(Address("127.0.0.1", 0))) as first:
        port = first.address.port
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            bind(Address("127.0.0.1", port))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (Address("192.0.2.1", 8080), "Cannot assign requested address"),
        (Address("no-such-host.invalid", 8080), "cannot listen on no-such-host.invalid:8080: "),
        (Address(path=Path("no-such-directory/s")), "No such file or directory"),
        (Address(path=Path("long" * 100)), "too long"),
    ],
)
def test_address_that_is_not_ours_is_told(address, why, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ListenError, match=why):
        bind(address)


def can_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not can_ipv6(), reason="this machine has no IPv6")


def is_reachable(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except ConnectionError:
        return False


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "told", "reachable"),
    [
        ("127.0.0.1", "127.0.0.1", {"127.0.0.1"}),
        ("::1", "::1", {"::1"}),
        ("0.0.0.0", "0.0.0.0", {"127.0.0.1"}),
        ("::", "::", {"127.0.0.1", "::1"}),
        ("", "::", {"127.0.0.1", "::1"}),
    ],
)
def test_port_is_chosen_and_told_for_port_0_and_no_host_takes_ipv4_and_ipv6(host, told, reachable):
    with closing(bind(Address(host, 0))) as listening:
        assert listening.address.host == told
        port = listening.address.port
        assert port > 0
        assert {some for some in ("127.0.0.1", "::1") if is_reachable(some, port)} == reachable


@needs_ipv6
@pytest.mark.parametrize("is_shared", [False, True])
def test_name_is_listened_on_at_all_of_its_addresses(monkeypatch, is_shared):
    resolve_to(monkeypatch, "127.0.0.1", "::1", "127.0.0.2")
    with closing(bind(Address("name.example", 0), is_shared=is_shared)) as listening:
        assert listening.address.host == "name.example"
        port = listening.address.port
        assert [one.getsockname()[:2] for one in listening.sockets] == [
            ("127.0.0.1", port),
            ("::1", port),
            ("127.0.0.2", port),
        ]


def test_address_of_a_name_that_this_host_does_not_have_is_left_out(monkeypatch):
    resolve_to(monkeypatch, "192.0.2.1", "127.0.0.1")
    with closing(bind(Address("name.example", 0))) as listening:
        assert listening.address.host == "127.0.0.1"


def test_name_of_another_host_is_told(monkeypatch):
    resolve_to(monkeypatch, "192.0.2.1", "198.51.100.1")
    with pytest.raises(ListenError, match=r"cannot listen on name\.example:0: Cannot assign requested"):
        bind(Address("name.example", 0))


def test_port_that_is_taken_at_one_address_of_a_name_is_told_and_nothing_stays_bound(monkeypatch):
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    with closing(bind(Address("127.0.0.2", 0))) as taken:
        port = taken.address.port
        with pytest.raises(ListenError, match="Address already in use"):
            bind(Address("name.example", port))
        bind(Address("127.0.0.1", port)).close()


def resolve_to(monkeypatch, *names: str) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **options):
        hosts = names if host == "name.example" else [host]
        return [found for name in hosts for found in real(name, *arguments, **options)]

    monkeypatch.setattr(sockets.socket, "getaddrinfo", getaddrinfo)


def test_workers_share_a_port_only_when_all_say_so():
    with closing(bind(Address("127.0.0.1", 0), is_shared=True)) as first:
        with closing(bind(first.address, is_shared=True)) as second:
            assert second.address == first.address
        first.sockets[0].listen()
        with pytest.raises(ListenError, match="in use"):
            bind(first.address)


def test_socket_file_of_a_process_that_was_killed_is_replaced(unix):
    bind(unix).close()
    assert unix.path.is_socket()
    with closing(bind(unix)) as listening, socket.socket(socket.AF_UNIX) as client:
        assert listening.address == unix
        client.connect(str(unix.path))


def test_socket_file_that_somebody_listens_on_is_left_alone(unix):
    with closing(bind(unix)):
        with pytest.raises(ListenError, match="cannot listen on unix:s: Address already in use"):
            bind(unix)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(unix.path))


def test_file_that_is_no_socket_is_left_alone(unix):
    unix.path.write_text("precious")
    with pytest.raises(ListenError, match="in use"):
        bind(unix)
    assert unix.path.read_text() == "precious"


def test_removing_takes_a_socket_file_away_and_forgives_its_absence(unix):
    listening = bind(unix)
    listening.close()
    listening.remove_file()
    assert not unix.path.exists()
    listening.remove_file()
    with closing(bind(Address("127.0.0.1", 0))) as other:
        other.remove_file()


def test_socket_file_of_the_next_process_is_left_alone(unix):
    """A restart overlaps: the old process has stopped listening, and ends when the new one listens already."""
    old = bind(unix)
    old.close()
    time.sleep(0.02)  # a clock tick of the file system
    with closing(bind(unix)):
        old.remove_file()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(unix.path))


@pytest.mark.parametrize(
    ("upstream", "listen"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080", ":8080"),
        ("http://127.0.0.1:8080", "0.0.0.0:8080"),
        ("http://127.0.0.1:8080", "[::]:8080"),
        ("http://localhost:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "localhost:8080"),
        ("http://127.0.0.2:8080", ":8080"),
        ("http://name.example:8080", "0.0.0.0:8080"),
        ("http://127.0.0.1", "127.0.0.1:80"),
        ("http://[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
        (f"http://{socket.gethostname()}:8080", ":8080"),
        ("unix:a/../s", "unix:s"),
    ],
)
def test_upstream_that_is_where_this_listens_is_recognised(upstream, listen, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    resolve_to(monkeypatch, "192.0.2.1", "127.0.0.3")
    assert reaches(Upstream.parse(upstream), Address.parse(listen))


@pytest.mark.parametrize(
    ("upstream", "listen"),
    [
        ("http://127.0.0.1:5000", "127.0.0.1:8080"),
        ("http://127.0.0.2:8080", "127.0.0.1:8080"),
        ("http://192.0.2.1:8080", ":8080"),  # another host's
        ("http://no-such-host.invalid:8080", ":8080"),
        ("http://127.0.0.1:8080", "unix:s"),
        ("unix:s", "127.0.0.1:8080"),
        ("unix:s", "unix:t"),
    ],
)
def test_other_upstreams_are_not(upstream, listen):
    assert not reaches(Upstream.parse(upstream), Address.parse(listen))
