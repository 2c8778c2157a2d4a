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
UWSGI_OPTIONS = {
    "uwsgi": "--http-socket",  # closes after each answer
    "uwsgi-http": "--http",  # the same by a process before the workers
    "uwsgi-http11": "--http11-socket",  # closes after an answer to content that was not read
}
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


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """Where a server listens on 127.0.0.1, and whom to send signals."""

    port: int
    pid: int


@contextlib.contextmanager
def running(name: str, log: Path) -> Iterator[LegacyServer]:
    """Run the legacy app under a server until the block ends; skip without uWSGI."""
    with serving(name, log, "tests.legacy.app:app") as process:
        server = LegacyServer(name, process.port)
        try:
            server.received()
        except (OSError, http.client.HTTPException) as error:
            raise AssertionError(f"{name} did not start: {log.read_text(errors='replace')}") from error
        yield server


@contextlib.contextmanager
def serving(name: str, log: Path, app: str) -> Iterator[ServerProcess]:
    """Run an app under a server until the block ends.

    The socket is bound and listening before the process starts, and nobody else holds it afterwards: the
    first request waits for the server to come up, and fails at once if it dies.

    Args:
        name: of the server, as `_command` knows it.
        log: takes what the server writes.
        app: `module:attribute`; with `()` behind it, a function that makes the app.
    """
    with log.open("wb") as output:
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                _command(name, listener.fileno(), app),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env={**os.environ, "PYTHONPATH": _import_path(name), "PYTHONDONTWRITEBYTECODE": "1"},
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        try:
            yield ServerProcess(port, process.pid)
        finally:
            _stop(process)


def _command(name: str, descriptor: int, app: str) -> list[str]:
    if name.startswith("gunicorn"):
        options = ["-c", "python:proxy.demo.gunicorn_settings", "--bind", f"fd://{descriptor}"]
        return [sys.executable, "-m", "gunicorn", *options, app]
    if name.startswith("uwsgi"):
        uwsgi = shutil.which("uwsgi", path=sysconfig.get_path("scripts"))
        if uwsgi is None:
            pytest.skip("uWSGI is not installed")
        return [
            uwsgi,
            *(UWSGI_OPTIONS[name], f"fd://{descriptor}"),
            *("--module", app, "--home", sys.prefix, "--pythonpath", str(ROOT), "--threads", "8"),
            *("--need-app", "--die-on-term", "--master", "--disable-logging", "--buffer-size", "32768"),
        ]
    return [sys.executable, "-m", "tests.legacy.run", name, str(descriptor), app]


def _import_path(name: str) -> str:
    if name != "gunicorn-23":
        return str(ROOT)
    old = Path(sys.prefix, name)
    if not old.is_dir():
        reason = f"no gunicorn 23 beside the newest: `pip install --no-deps --target {old} gunicorn==23.0.0`"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return os.pathsep.join((str(old), str(ROOT)))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
