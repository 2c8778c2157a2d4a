"""The processes of the demo: started on free ports, watched while they start, and always ended again."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_START_TIMEOUT_S = 20
_STOP_TIMEOUT_S = 5
_POLL_INTERVAL_S = 0.02
_LOCALHOST = "127.0.0.1"
_SOURCE_ROOT = Path(__file__).resolve().parents[2]


class StageError(Exception):
    """Something the demo needs is missing or does not start; the text is for the person who started it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs, and where.

    Attributes:
        app: the app without the proxy, as `http://127.0.0.1:port`.
        proxy: the app behind the proxy.
        admin: the proxy's admin listener.
        rules: the rules file in force.
        access_log: file with one JSON object a line.
        processes: the app's server and the proxy, by name.
    """

    app: str
    proxy: str
    admin: str
    rules: Path
    access_log: Path
    processes: dict[str, asyncio.subprocess.Process]

    async def first_exit(self) -> str:
        """Wait until one of the processes ends, and return its name."""
        waits = {asyncio.ensure_future(process.wait()): name for name, process in self.processes.items()}
        try:
            ended, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return waits[ended.pop()]


@asynccontextmanager
async def set_stage() -> AsyncIterator[Stage]:
    """Run the legacy app under gunicorn and the proxy before it, with the shipped rules.

    Raises:
        StageError: the extra `demo` is not installed, the rules are missing, or a process does not start.
    """
    _require_extra()
    rules = shipped_rules()
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nocache-proxy-demo-")))
        (directory / "uploads").mkdir()
        access_log = directory / "access.log"

        address, admin_address = _free_addresses(2)
        app_address, app = await _start_app(directory, address)
        stack.push_async_callback(_stop, app)
        await _until_ready(app, app_address, directory / "gunicorn.log")

        proxy = await _start(
            [
                *("proxy", "serve", "--listen", address, "--upstream", f"http://{app_address}"),
                *("--rules", str(rules), "--admin", admin_address),
                *("--access-log", "json", "--access-log-file", str(access_log)),
            ],
            directory,
            "proxy.log",
        )
        stack.push_async_callback(_stop, proxy)
        await _until_ready(proxy, address, directory / "proxy.log")

        yield Stage(
            app=f"http://{app_address}",
            proxy=f"http://{address}",
            admin=f"http://{admin_address}",
            rules=rules,
            access_log=access_log,
            processes={"gunicorn": app, "the proxy": proxy},
        )


def shipped_rules() -> Path:
    """Return the rules file that the distribution ships.

    It is `config/rules.yaml` of the source tree; a wheel carries a copy of it beside this module.

    Raises:
        StageError: neither is there.
    """
    candidates = (Path(__file__).with_name("rules.yaml"), _SOURCE_ROOT / "config" / "rules.yaml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise StageError("the shipped rules are missing: " + " or ".join(map(str, candidates)))


def _require_extra() -> None:
    missing = [name for name in ("flask", "gunicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise StageError(f"the demo needs {' and '.join(missing)}: pip install 'nocache-proxy[demo]'")


async def _start_app(directory: Path, proxy_address: str) -> tuple[str, asyncio.subprocess.Process]:
    """Start gunicorn on a socket that is bound here: so its port is known and cannot be taken by others."""
    with socket.create_server((_LOCALHOST, 0)) as listener:
        address = f"{_LOCALHOST}:{listener.getsockname()[1]}"
        sites = (f"http://{address}", f"http://{proxy_address}")
        process = await _start(
            [
                *(
                    "gunicorn",
                    "-c",
                    "python:proxy.demo.gunicorn_settings",
                    "--bind",
                    f"fd://{listener.fileno()}",
                ),
                f"proxy.demo.app:create_app({str(directory / 'uploads')!r}, {sites!r})",
            ],
            directory,
            "gunicorn.log",
            pass_fds=(listener.fileno(),),
        )
    return address, process


async def _start(
    module_and_arguments: Sequence[str], directory: Path, log: str, *, pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """Run `python -m ...` in `directory`, with this very package importable and its output in a file.

    The process gets a session of its own, so that a Ctrl-C reaches it through us only.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOCACHE_PROXY_")}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(_SOURCE_ROOT), os.environ.get("PYTHONPATH")))
    )
    with (directory / log).open("wb") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *module_and_arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        )


async def _until_ready(process: asyncio.subprocess.Process, address: str, log: Path) -> None:
    """Wait until `address` answers HTTP.

    Raises:
        StageError: the process ended or took too long; its last words are in the text.
    """
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while process.returncode is None and not await _answers(address):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_INTERVAL_S)
    except TimeoutError:
        raise StageError(_last_words(f"{log.stem} did not start in {_START_TIMEOUT_S} s", log)) from None
    if process.returncode is not None:
        raise StageError(_last_words(f"{log.stem} ended with exit code {process.returncode}", log))


async def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    try:
        writer.write(f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read(5)) == b"HTTP/"
    except OSError:
        return False
    finally:
        writer.close()


def _last_words(text: str, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return "\n".join((text, *(f"  {line}" for line in lines)))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    for end in (process.terminate, process.kill):
        with contextlib.suppress(ProcessLookupError):
            end()
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            continue
        return


def _free_addresses(count: int) -> list[str]:
    """Return addresses that are free now: held together, so that they differ."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((_LOCALHOST, 0))) for _ in range(count)]
        return [f"{_LOCALHOST}:{listener.getsockname()[1]}" for listener in listeners]
