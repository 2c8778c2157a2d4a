"""config/compose.yaml as a user runs it: the demo app, and the proxy as the only way to it."""

from __future__ import annotations

import json
import os
import socket
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.containers.conftest import Images
from tests.containers.podman import ROOT, XHR, get, is_protected, podman, run, until
from tests.support.programs import program

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]  # the first one builds the images


@dataclass(frozen=True, slots=True)
class Project:
    """What was started: its containers by service, and where the proxy answers."""

    url: str
    containers: dict[str, dict[str, Any]]


@pytest.fixture
def project(images: Images) -> Iterator[Project]:
    """`up` and, in the end, `down`; the build finds every layer made by the other tests."""
    compose = _compose()
    name = f"nocache-proxy-test-{uuid.uuid4().hex[:8]}"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    env = {"PORT": str(port), "PYTHON_IMAGE": images.base}
    command = (compose, "--file", str(ROOT / "config" / "compose.yaml"), "--project-name", name)
    try:
        run(*command, "up", "--build", "--detach", env=env)
        label = f"label=io.podman.compose.project={name}"
        found = json.loads(podman("inspect", *podman("ps", "--quiet", "--filter", label).split()))
        containers = {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}
        yield Project(f"http://127.0.0.1:{port}", containers)
    finally:
        run(*command, "down", "--volumes", env=env, is_checked=False)


def test_compose_file_works_as_it_stands(project: Project) -> None:
    """XHR protected, page untouched, an upload seen at once; nobody but the proxy is published."""
    last_uploaded = f"{project.url}/file/last_uploaded"
    until(lambda: get(last_uploaded).ok, "the app answers through the proxy")
    assert is_protected(get(last_uploaded, XHR))
    assert not is_protected(get(project.url))

    assert set(project.containers) == {"app", "proxy"}
    published = {service: _published(each) for service, each in project.containers.items()}
    assert published == {"app": [], "proxy": ["8080/tcp"]}
    mounts = {mount["Destination"]: mount for mount in project.containers["proxy"]["Mounts"]}
    assert mounts["/app/config"]["RW"] is False
    for service, each in project.containers.items():
        assert each["HostConfig"]["ReadonlyRootfs"] is True, service


def _published(container: dict[str, Any]) -> list[str]:
    ports = container["NetworkSettings"]["Ports"]
    return [port for port, bindings in ports.items() if bindings]


def _compose() -> str:
    """podman-compose, beside the interpreter or on the path."""
    beside = Path(sys.executable).with_name("podman-compose")
    return str(beside) if os.access(beside, os.X_OK) else program("podman-compose")
