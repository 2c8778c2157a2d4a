"""The images, built once a run, and a network of the test's own; without podman, the reason why not."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.podman import (
    PYTHON_IMAGE,
    ROOT,
    Container,
    container,
    get,
    missing,
    podman,
    succeeds,
    until,
)
from tests.support.programs import program

IMAGE = "localhost/nocache-proxy-test"
DEMO_IMAGE = "localhost/nocache-proxy-demo-test"


@dataclass(frozen=True, slots=True)
class Images:
    """Names of images: the base, the proxy and the demo's app."""

    base: str
    proxy: str
    demo: str


@pytest.fixture(scope="session")
def images() -> Images:
    """Build both images from the Dockerfile; the base comes from PYTHON_IMAGE."""
    program("podman")
    if not succeeds("podman", "image", "exists", PYTHON_IMAGE) and not succeeds(
        "podman", "pull", PYTHON_IMAGE
    ):
        missing(
            f"the base image {PYTHON_IMAGE} is neither here nor to be pulled; PYTHON_IMAGE may name another"
        )
    build = ("build", "--quiet", f"--build-arg=PYTHON_IMAGE={PYTHON_IMAGE}")
    podman(*build, f"--tag={IMAGE}", str(ROOT))
    podman(*build, f"--tag={DEMO_IMAGE}", "--target=demo", str(ROOT))
    return Images(PYTHON_IMAGE, IMAGE, DEMO_IMAGE)


@pytest.fixture
def network(images: Images) -> Iterator[str]:
    """A network whose containers find each other by name."""
    name = f"nocache-proxy-test-{uuid.uuid4().hex[:8]}"
    podman("network", "create", name)
    yield name
    podman("network", "rm", "--force", name)


@pytest.fixture
def app(images: Images, network: str) -> Iterator[Container]:
    """A legacy Flask app under gunicorn, in a container of its own; the name `app` finds it."""
    options = (
        f"--network={network}",
        "--network-alias=app",
        f"--volume={Path(__file__).parent}:/legacy:ro",
        "--publish=127.0.0.1::8000",
        "--entrypoint=gunicorn",
    )
    settings = ("--config=python:proxy.demo.gunicorn_settings", "--worker-tmp-dir=/dev/shm")
    with container(
        images.demo, *settings, "--chdir=/legacy", "--bind=0.0.0.0:8000", "app:app", options=options
    ) as running:
        until(lambda: get(running.url(8000)).ok, "the app answers")
        yield running
