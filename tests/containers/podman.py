"""Podman for the tests: each container has its own name and a port on loopback, and is removed in the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

ROOT = Path(__file__).parents[2]
BASE_IMAGE = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
PYTHON_IMAGE = os.environ.get("PYTHON_IMAGE", f"docker.io/library/{BASE_IMAGE}")
ENDED_S = 60.0  # how long anything here may take before a test calls it hung

# What a careful operator would say; --read-only-tmpfs=false takes away the /tmp that podman alone leaves.
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
T = TypeVar("T")
XHR = {"X-Requested-With": "XMLHttpRequest"}


def missing(what: str) -> None:
    """End the test: skipped on somebody's machine, failed in CI, where it must not go unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def podman(*arguments: str, is_checked: bool = True, env: dict[str, str] | None = None) -> str:
    """Run podman and return its standard output, or fail with what it said."""
    return run("podman", *arguments, is_checked=is_checked, env=env)


def run(*command: str, is_checked: bool = True, env: dict[str, str] | None = None) -> str:
    """Run a command and return its standard output, or fail with what it said."""
    # BUILDAH_FORMAT: podman's own image format knows no HEALTHCHECK.
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "BUILDAH_FORMAT": "docker", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if is_checked and done.returncode:
        pytest.fail(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout.strip()


def succeeds(*command: str) -> bool:
    """Whether a command that may well fail does not."""
    return subprocess.run(command, capture_output=True, check=False, timeout=300).returncode == 0


@dataclass(frozen=True, slots=True)
class Container:
    """A container that runs, or ran."""

    name: str

    def url(self, port: int) -> str:
        """Where a port of it is published."""
        return f"http://{podman('port', self.name, str(port)).splitlines()[0]}"

    def inspect(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(podman("inspect", self.name))[0]
        return state

    def logs(self) -> str:
        command = ("podman", "logs", self.name)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    def python(self, code: str) -> str:
        """Run a line of Python inside it."""
        return podman("exec", self.name, "python3", "-c", code)

    def signal(self, name: str) -> None:
        podman("kill", "--signal", name, self.name)

    def exit_status(self) -> int:
        """Wait for its end."""
        return int(podman("wait", self.name))

    def is_healthy(self) -> bool:
        """Run the image's HEALTHCHECK once, as the engine would."""
        return succeeds("podman", "healthcheck", "run", self.name)


@contextmanager
def container(image: str, *command: str, options: Sequence[str] = ()) -> Iterator[Container]:
    """Run a container in the background while the block runs."""
    name = f"nocache-proxy-test-{uuid.uuid4().hex[:8]}"
    try:
        podman("run", "--detach", f"--name={name}", *options, image, *command)
        yield Container(name)
    finally:
        podman("rm", "--force", "--time=1", "--ignore", name)


def until(ask: Callable[[], T], what: str) -> T:
    """Ask until the answer is true; a connection that fails is no answer yet."""
    end = time.monotonic() + ENDED_S
    last: object = None
    while time.monotonic() < end:
        try:
            answer = ask()
        except requests.RequestException as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        time.sleep(0.05)
    pytest.fail(f"not within {ENDED_S:.0f} s: {what}; last: {last!r}")


def get(url: str, fields: Mapping[str, str] | None = None) -> requests.Response:
    """GET on a connection of its own, and through no proxy that the machine may be set to use."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=dict(fields or {}), timeout=30)


def is_protected(response: requests.Response) -> bool:
    """Whether no cache may use it again."""
    return "no-store" in response.headers.get("Cache-Control", "")
