"""The image as an operator runs it: locked down, in front of a Flask app in a container beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import proxy
from tests.containers.conftest import Images
from tests.containers.podman import (
    HARDENED,
    ROOT,
    XHR,
    Container,
    container,
    get,
    is_protected,
    podman,
    until,
)

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]  # the first one builds the images

MAX_SIZE_ABOVE_BASE_MIB = 60


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A copy of config/ as an operator has it on the host, readable by the user of the image."""
    directory = tmp_path / "config"
    directory.mkdir()
    shutil.copy(ROOT / "config" / "rules.yaml", directory)
    for part in (directory, *list(directory.parents)[:2]):
        part.chmod(0o755)
    return directory


@pytest.fixture
def sidecar(images: Images, network: str, app: Container, config: Path) -> Iterator[Container]:
    """The proxy with nothing but what it needs; it is ready."""
    options = (
        *HARDENED,
        f"--network={network}",
        f"--volume={config}:/app/config:ro",
        "--env=NOCACHE_PROXY_UPSTREAM=http://app:8000",
        "--publish=127.0.0.1::8080",
        "--publish=127.0.0.1::9901",
    )
    started = time.monotonic()
    with container(images.proxy, options=options) as running:
        admin = running.url(9901)
        until(lambda: get(f"{admin}/readyz").ok, "/readyz says 200")
        print(f"\ncontainer started to ready: {time.monotonic() - started:.2f} s")
        yield running


def test_image_is_small(images: Images) -> None:
    """At most 60 MiB above its base image."""
    base, image = (
        int(podman("image", "inspect", "--format={{.Size}}", name)) for name in (images.base, images.proxy)
    )
    above_mib = (image - base) / 2**20
    print(f"\nimage size above its base: {above_mib:.1f} MiB")
    assert 0 < above_mib <= MAX_SIZE_ABOVE_BASE_MIB


def test_image_says_how_it_is_run(images: Images) -> None:
    """A numeric user (runAsNonRoot cannot check a name), no shell between engine and process, labels."""
    image = json.loads(podman("image", "inspect", images.proxy))[0]
    config = image["Config"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])
    assert config["Entrypoint"] == ["nocache-proxy"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert image["Healthcheck"]["Test"] == ["CMD", "nocache-proxy", "healthcheck"]
    assert config["Labels"]["org.opencontainers.image.version"] == proxy.__version__
    assert set(config["ExposedPorts"]) == {"8080/tcp"}  # not the admin port: `docker run -P` would publish it


def test_matching_response_is_protected_and_a_page_is_not_touched(sidecar: Container) -> None:
    """The job, by a process without root, capabilities and a place to write."""
    url = sidecar.url(8080)
    assert is_protected(get(f"{url}/file/last_uploaded", XHR))
    page = get(url)
    assert page.text == "<p>a page"
    assert page.headers["Cache-Control"] == "max-age=60"

    status = sidecar.python("print(open('/proc/1/status').read())")
    assert re.search(r"^Uid:\s+10001\s+10001\s", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    for place in ("/app/config/new", "/app/new", "/tmp/new", "/opt/new"):
        code = f"try: open({place!r}, 'w')\nexcept OSError: print('refused')"
        assert sidecar.python(code) == "refused", place


def test_rules_edited_on_the_host_take_effect(sidecar: Container, config: Path) -> None:
    """Written in place or replaced by rename, as editors do; a mistake leaves the old rules in force."""
    rules = config / "rules.yaml"
    target, admin = f"{sidecar.url(8080)}/file/last_uploaded", sidecar.url(9901)
    assert is_protected(get(target, XHR))

    rules.write_text("version: 1\nrules: [{name: none, match: {paths: [/none]}}]\n")
    until(lambda: not is_protected(get(target, XHR)), "the rules written in place are in force")

    replacement = config / "rules.yaml.new"
    replacement.write_text("version: 1\nrules: [{name: everything, match: {paths: ['/**']}}]\n")
    replacement.chmod(0o644)
    replacement.replace(rules)
    until(lambda: is_protected(get(target)), "the rules put in place by rename are in force")

    rules.write_text("version: 1\nrules: [{nome: everything}]\n")
    until(lambda: "rules not reloaded" in sidecar.logs(), "the log says that they are not taken")
    assert "rules.yaml:2" in sidecar.logs().partition("rules not reloaded")[2]
    assert is_protected(get(target))
    assert get(f"{admin}/readyz").ok
    assert "rules.yaml:2" in get(f"{admin}/readyz").text


def test_response_in_flight_finishes_after_sigterm(sidecar: Container, app: Container) -> None:
    """Drained, not cut: the response is whole, new connections are refused, the exit status is 0."""
    url = sidecar.url(8080)
    with requests.Session() as session:
        session.trust_env = False
        pieces = session.get(f"{url}/slow", stream=True, timeout=30).iter_content(chunk_size=None)
        answer = next(pieces)
        sidecar.signal("TERM")
        until(lambda: _is_refused(url), "no new connection is accepted")
        get(f"{app.url(8000)}/finish")
        answer += b"".join(pieces)
    assert answer == b"begun, finished"
    assert sidecar.exit_status() == 0


def test_second_sigterm_ends_at_once(sidecar: Container) -> None:
    """An operator in a hurry does not wait for the drain: the response in flight is cut, visibly."""
    url = sidecar.url(8080)
    with requests.Session() as session:
        session.trust_env = False
        pieces = session.get(f"{url}/slow", stream=True, timeout=30).iter_content(chunk_size=None)
        assert next(pieces) == b"begun, "
        sidecar.signal("TERM")
        until(lambda: _is_refused(url), "no new connection is accepted")
        sidecar.signal("TERM")
        with pytest.raises(requests.RequestException):
            list(pieces)
    sidecar.exit_status()


def test_healthcheck_turns_with_the_app(sidecar: Container, app: Container) -> None:
    """It asks for readiness: unhealthy without the app, healthy with it again."""
    assert sidecar.is_healthy()
    app.signal("KILL")
    app.exit_status()
    until(lambda: not sidecar.is_healthy(), "unhealthy without the app")
    podman("start", app.name)
    until(sidecar.is_healthy, "healthy with the app again")


def test_healthcheck_turns_when_the_process_hangs(sidecar: Container) -> None:
    """No answer is no health, however alive the process looks to the engine."""
    sidecar.signal("STOP")
    try:
        assert not sidecar.is_healthy()
    finally:
        sidecar.signal("CONT")
    until(sidecar.is_healthy, "healthy again")


def test_mistake_in_the_rules_ends_the_start_with_78(images: Images, config: Path) -> None:
    """Nothing listens with rules that were not meant; the log says what is wrong, and where."""
    (config / "rules.yaml").write_text("version: 1\nrules: [{nome: ajax}]\n")
    options = (
        *HARDENED,
        f"--volume={config}:/app/config:ro",
        "--env=NOCACHE_PROXY_UPSTREAM=http://127.0.0.1:1",
    )
    with container(images.proxy, options=options) as running:
        assert running.exit_status() == os.EX_CONFIG
        assert "/app/config/rules.yaml:2:" in running.logs()


def _is_refused(url: str) -> bool:
    try:
        get(url)
    except requests.ConnectionError:
        return True
    return False
