"""The decoders against the servers they stand for, so that the laws that are built on them hold for real."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.message.errors import TargetError
from proxy.message.target import parse_target
from tests.legacy.decoders import DECODERS
from tests.legacy.servers import SERVERS, LegacyServer, running

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECES = b"/ / // /. /.. /./ /../ . .. %2e %2F % %% %7 %7/ %41 %zz %C3%B6 %ff".split()
PIECES += b"# a bc ; ? = [ ] : @ \xc3\xb6 \xf6".split()
TARGETS = st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: b"/" + b"".join(pieces))


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LegacyServer]:
    name = request.param
    with running(name, tmp_path_factory.mktemp(name) / "log") as started:
        yield started


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(target=TARGETS)
def test_decoder_gives_the_app_what_the_server_gives_it(server: LegacyServer, target: bytes) -> None:
    """For every target that the proxy forwards: the same `PATH_INFO`, or both refuse."""
    try:
        forwarded, _ = parse_target("GET", target)
    except TargetError:
        return
    expected = DECODERS[server.name]("GET", forwarded)
    assert path_info_under(server, forwarded) == (None if expected is None else expected.path_info)


@pytest.mark.parametrize(
    ("path", "decoded"),
    [
        (b"/api/x%7/y/../data", "/api/data"),
        (b"/api%2fx/../data", "/api/data"),
        (b"/api/%2e%2e%2fx/../data", "/api/../data"),
        (b"/./a/.b/..c/%2e/", "/a/.b/..c/./"),
        (b"/a//../b", "/a/b"),
        (b"/a/..", "/"),
        (b"/a%", "/a"),
        (b"/a%7", "/a"),
    ],
)
def test_uwsgi_decodes_while_it_removes_dot_segments(path: bytes, decoded: str) -> None:
    """Named cases of its state machine; the test above holds it against the real one."""
    routed = DECODERS["uwsgi"]("GET", path)
    assert routed is not None
    assert routed.path_info == decoded


def path_info_under(server: LegacyServer, target: bytes) -> str | None:
    """Ask the server for `target`; return what its app got, `None` if the app got nothing."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while connection.recv(65536):
            pass
    entries = server.received()
    return entries[0]["path_info"] if entries else None
