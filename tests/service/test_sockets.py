"""The contract of listening: an address that cannot be had is told at once, in words that name it."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from proxy.service.sockets import ListenError, bind, bound_address, remove
from proxy.settings import Address


@pytest.fixture
def unix(tmp_path, monkeypatch) -> Address:
    """A path that is short enough for a socket, wherever the tests run."""
    monkeypatch.chdir(tmp_path)
    return Address(path=Path("s"))


def test_port_that_is_taken_is_told():
    with closing(bind(Address("127.0.0.1", 0))) as first:
        port = first.getsockname()[1]
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


@pytest.mark.parametrize("host", ["127.0.0.1", "", "::1", "::", "localhost"])
def test_port_is_chosen_and_told_for_port_0(host):
    if ":" in host and not can_ipv6():
        pytest.skip("this machine has no IPv6")
    with closing(bind(Address(host, 0))) as listening:
        address = bound_address(listening)
        assert address.port > 0
        reachable_at = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(address.host, address.host)
        with socket.create_connection((reachable_at, address.port), timeout=5):
            pass


def can_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_workers_share_a_port_only_when_all_say_so():
    with closing(bind(Address("127.0.0.1", 0), is_shared=True)) as first:
        address = bound_address(first)
        with closing(bind(address, is_shared=True)) as second:
            assert second.getsockname() == first.getsockname()
        first.listen()
        with pytest.raises(ListenError, match="in use"):
            bind(address)


def test_socket_file_of_a_process_that_was_killed_is_replaced(unix):
    bind(unix).close()
    assert unix.path.is_socket()
    with closing(bind(unix)) as listening, socket.socket(socket.AF_UNIX) as client:
        assert bound_address(listening) == unix
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
    bind(unix).close()
    remove(unix)
    remove(unix)
    remove(Address("127.0.0.1", 8080))
    assert not unix.path.exists()
