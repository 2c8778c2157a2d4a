"""Real WSGI servers as subprocesses, each with the legacy app, on ports that the system chose."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.legacy.app import LOG_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 5
SERVERS = ("gunicorn", "waitress", "werkzeug", "uwsgi")


@dataclass(frozen=True, slots=True)
class LegacyServer:
    """A running server.

    Attributes:
        name: one of `SERVERS`.
        port: on 127.0.0.1.
    """

    name: str
    port: int

    def received(self) -> list[dict[str, Any]]:
        """Return what the app received since this was last asked, without the asking itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", LOG_PATH)
            entries: list[dict[str, Any]] = json.loads(connection.getresponse().read())
        return entries


@contextlib.contextmanager
def running(name: str, log: Path) -> Iterator[LegacyServer]:
    """Run the legacy app under a server until the block ends.

    The socket is bound and listening before the process starts, and nobody else holds it afterwards: the
    first request waits for the server to come up, and fails at once if it dies. Skips without uWSGI.
    """
    uwsgi = shutil.which("uwsgi", path=sysconfig.get_path("scripts"))
    if name == "uwsgi" and uwsgi is None:
        pytest.skip("uWSGI is not installed")
    with log.open("wb") as output:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                _command(name, listener.fileno(), uwsgi),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        try:
            server = LegacyServer(name, port)
            try:
                server.received()
            except (OSError, http.client.HTTPException) as error:
                raise AssertionError(f"{name} did not start: {log.read_text(errors='replace')}") from error
            yield server
        finally:
            _stop(process)


def _command(name: str, descriptor: int, uwsgi: str | None) -> list[str]:
    if name == "gunicorn":
        options = ["-c", "python:proxy.demo.gunicorn_settings", "--bind", f"fd://{descriptor}"]
        return [sys.executable, "-m", "gunicorn", *options, "tests.legacy.app:app"]
    if name == "uwsgi":
        assert uwsgi is not None
        return [
            uwsgi,
            *("--http-socket", f"fd://{descriptor}", "--module", "tests.legacy.app:app"),
            *("--home", sys.prefix, "--pythonpath", str(ROOT), "--threads", "4"),
            *("--need-app", "--die-on-term", "--master", "--disable-logging", "--buffer-size", "32768"),
        ]
    return [sys.executable, "-m", "tests.legacy.run", name, str(descriptor)]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
