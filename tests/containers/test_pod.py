"""The pod of the shipped manifests, run by podman: proxy and app share a loopback, as on Kubernetes."""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.containers.conftest import Images
from tests.containers.manifests import Manifest, container_of, one, pod_spec, render
from tests.containers.podman import XHR, Container, get, is_protected, podman, succeeds, until
from tests.support.ports import free_port

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]  # the first one builds the images


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that runs.

    Attributes:
        spec: of the pod, as shipped.
        ports: where a container port is published, by its number.
        rules: the file in the ConfigMap.
    """

    name: str
    spec: Manifest
    ports: dict[int, int]
    rules: str

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def container(self, name: str) -> Container:
        return Container(f"{self.name}-{name}")


@pytest.fixture(params=[(), ("plain-container",)], ids=["native", "plain"])
def pod(request: pytest.FixtureRequest, images: Images, tmp_path: Path) -> Iterator[Pod]:
    """The pod, from what kustomize makes of config/."""
    manifests = render(tmp_path, *request.param)
    spec = pod_spec(manifests)
    name = f"nocache-proxy-test-{uuid.uuid4().hex[:8]}"
    ports = {port["containerPort"]: free_port() for port in container_of(spec, "nocache-proxy")["ports"]}
    runnable = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": _for_podman(spec, images, ports),
    }
    config_map = one(manifests, "ConfigMap", "nocache-proxy-rules")
    config_map["data"]["rules.yaml"] += "# not the file that is in the image\n"
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump_all([config_map, runnable]))
    play = _play()
    try:
        podman(*play, str(file))
        yield Pod(name, spec, ports, config_map["data"]["rules.yaml"])
    finally:
        podman(*play, "--down", str(file), is_checked=False)
        podman("pod", "rm", "--force", "--ignore", "--time=1", name, is_checked=False)
        podman("volume", "rm", "--force", "nocache-proxy-rules", is_checked=False)


def test_pod_does_its_job(pod: Pod) -> None:
    """XHR protected, page untouched, probes answer; by the rules of the ConfigMap."""
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        _until_probe_succeeds(pod, probe)

    url = pod.url(8080)
    assert is_protected(get(f"{url}/file/last_uploaded", XHR))
    page = get(url)
    assert page.ok
    assert not is_protected(page)
    assert "jquery" in page.text.lower() or "<script" in page.text
    digest = hashlib.sha256(pod.rules.encode()).hexdigest()
    assert digest.startswith(get(f"{pod.url(9901)}/readyz").json()["rules"]), "other rules are in force"

    app = container_of(pod.spec, "app")
    podman("exec", pod.container("app").name, *app["livenessProbe"]["exec"]["command"])
    stop_command = app["lifecycle"]["preStop"]["exec"]["command"]
    podman("exec", pod.container("app").name, stop_command[0], "0")


def test_app_is_not_reached_from_outside_of_the_pod(pod: Pod, images: Images) -> None:
    """Its port answers on the pod's loopback alone, not at the pod's address."""
    _until_probe_succeeds(pod, "readinessProbe")
    code = (
        "import socket; address = socket.gethostbyname(socket.gethostname());"
        "print(address, *(socket.socket().connect_ex((address, port)) for port in (8000, 8080)))"
    )
    address, app_error, proxy_error = pod.container("nocache-proxy").python(code).split()
    assert not address.startswith("127."), "the question would be another one"
    assert app_error != "0"
    assert proxy_error == "0"


def test_ready_means_that_the_app_answers(pod: Pod) -> None:
    """Without its app the proxy is alive but not ready; with it again, ready again, and not by a restart."""
    _until_probe_succeeds(pod, "readinessProbe")
    app = pod.container("app")
    app.signal("KILL")
    if podman("wait", app.name):
        admin = pod.url(9901)
        until(lambda: get(f"{admin}/readyz").status_code == 503, "/readyz says 503 without an app")
        assert get(f"{admin}/livez").ok
        response = get(f"{pod.url(8080)}/file/last_uploaded", XHR)
        assert response.status_code == 502
        assert is_protected(response)
        podman("start", app.name)
    _until_probe_succeeds(pod, "readinessProbe")


def _for_podman(spec: Manifest, images: Images, ports: dict[int, int]) -> Manifest:
    """Say what podman 4.3 does not understand in words that it does.

    It knows no native sidecars, so they become containers, still first; and its probes need curl in the
    image, so this test asks instead of them. Images and published ports are the test's own. All else stays
    as it is shipped.
    """
    changed = copy.deepcopy(spec)
    changed["containers"] = changed.pop("initContainers", []) + changed["containers"]
    changed["restartPolicy"] = "Never"
    for container in changed["containers"]:
        container["image"] = images.proxy if container["image"].startswith("nocache-proxy:") else images.demo
        container["imagePullPolicy"] = "Never"
        for key in ("restartPolicy", "startupProbe", "livenessProbe", "readinessProbe"):
            container.pop(key, None)
        for port in container.get("ports", []):
            port |= {"hostPort": ports[port["containerPort"]], "hostIP": "127.0.0.1"}
    return changed


def _play() -> tuple[str, str]:
    """The command's name since podman 4.4, or the one before."""
    return ("kube", "play") if succeeds("podman", "kube", "play", "--help") else ("play", "kube")


def _until_probe_succeeds(pod: Pod, name: str) -> None:
    sidecar = container_of(pod.spec, "nocache-proxy")
    if name not in sidecar:
        return
    probe = sidecar[name]["httpGet"]
    (port,) = [port["containerPort"] for port in sidecar["ports"] if port["name"] == probe["port"]]
    until(lambda: get(f"{pod.url(port)}{probe['path']}").ok, f"{name} succeeds")
