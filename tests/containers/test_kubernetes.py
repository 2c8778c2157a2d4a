"""The Kubernetes manifests: valid by the real schemas, and in agreement with themselves and the image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kubernetes_validate import utils as kubernetes

from proxy.settings import Settings, Upstream
from tests.containers.manifests import Manifest, container_of, one, pod_spec, render
from tests.containers.podman import ROOT

DEFAULTS = Settings(upstream=Upstream("http"))
GUNICORN_GRACEFUL_TIMEOUT_S = 30  # its default: what an app that is not the demo is likely to have

SERVICE_MONITOR = {
    # The part of the operator's CRD (monitoring.coreos.com/v1) that is used here; other keys are refused.
    "type": "object",
    "required": ["selector", "endpoints"],
    "additionalProperties": False,
    "properties": {
        "selector": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
        "endpoints": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["port"],
                "additionalProperties": False,
                "properties": {
                    "port": {"type": "string"},
                    "path": {"type": "string"},
                    "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """As shipped."""
    return render(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """With the component for clusters before 1.29."""
    return render(tmp_path_factory.mktemp("plain"), "plain-container")


def minor(version: str) -> int:
    return int(version.split(".")[1])


def at_least(first: int) -> list[str]:
    versions = [version for version in dict.fromkeys(kubernetes.all_versions()) if minor(version) >= first]
    assert minor(versions[0]) == first, "the schemas to validate against are gone"
    return versions


@pytest.mark.parametrize("version", at_least(29))
def test_manifests_are_valid(native: list[Manifest], version: str) -> None:
    """Strictly: an unknown key is an error, too."""
    for manifest in native:
        kubernetes.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", at_least(25))
def test_manifests_with_the_plain_container_are_valid(plain: list[Manifest], version: str) -> None:
    """As far back as there are schemas."""
    for manifest in plain:
        kubernetes.validate(manifest, version, strict=True)


def test_native_sidecar_is_no_manifest_for_an_old_cluster(native: list[Manifest]) -> None:
    """What the other variant is for; and the proof that these schemas do refuse something."""
    with pytest.raises(kubernetes.ValidationError, match="restartPolicy"):
        kubernetes.validate(one(native, "Deployment"), "1.27", strict=True)


def test_every_kind_is_there(native: list[Manifest]) -> None:
    kinds = sorted(manifest["kind"] for manifest in native)
    expected = [
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    ]
    assert kinds == expected


def test_config_map_holds_the_shipped_rules(native: list[Manifest]) -> None:
    """Under a name without a hash, so that a change is a reload and not a restart; mounted as a directory."""
    config_map = one(native, "ConfigMap", "nocache-proxy-rules")
    assert config_map["data"] == {"rules.yaml": (ROOT / "config" / "rules.yaml").read_text()}
    spec = pod_spec(native)
    (volume,) = [volume for volume in spec["volumes"] if "configMap" in volume]
    assert volume["configMap"]["name"] == "nocache-proxy-rules"
    (mount,) = container_of(spec, "nocache-proxy")["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/app/config", "readOnly": True}


def test_app_never_waits_for_itself(native: list[Manifest]) -> None:
    """The app starts when the sidecar's start-up probe has succeeded, so that must not ask for the app."""
    sidecar = pod_spec(native)["initContainers"][0]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/livez"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_plain_container_is_the_same_container(native: list[Manifest], plain: list[Manifest]) -> None:
    """Only what makes a sidecar of it is gone, and a drain delay has come."""
    spec = pod_spec(plain)
    assert "initContainers" not in spec
    assert [container["name"] for container in spec["containers"]] == ["app", "nocache-proxy"]
    container = dict(container_of(spec, "nocache-proxy"))
    container["env"] = [each for each in container["env"] if each["name"] != "NOCACHE_PROXY_DRAIN_DELAY"]
    expected = container_of(pod_spec(native), "nocache-proxy")
    assert container == {
        key: expected[key] for key in expected if key not in {"restartPolicy", "startupProbe"}
    }


def test_pod_has_the_time_that_a_drain_takes(native: list[Manifest]) -> None:
    """A native sidecar is stopped when the app has ended, so their times add up."""
    spec = pod_spec(native)
    needed = pre_stop_s(spec) + GUNICORN_GRACEFUL_TIMEOUT_S + DEFAULTS.drain_timeout_s
    assert spec["terminationGracePeriodSeconds"] >= needed


def test_plain_pod_has_the_time_that_a_drain_takes(plain: list[Manifest]) -> None:
    """Without the order of sidecars, the app must begin to stop only when the proxy has drained."""
    spec = pod_spec(plain)
    environment = {each["name"]: each["value"] for each in container_of(spec, "nocache-proxy")["env"]}
    drained_s = float(environment["NOCACHE_PROXY_DRAIN_DELAY"]) + DEFAULTS.drain_timeout_s
    assert pre_stop_s(spec) > drained_s
    assert spec["terminationGracePeriodSeconds"] >= pre_stop_s(spec) + GUNICORN_GRACEFUL_TIMEOUT_S


def pre_stop_s(spec: Manifest) -> int:
    command = container_of(spec, "app")["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    return int(command[1])


def test_nobody_gets_to_the_app_but_through_the_proxy(native: list[Manifest]) -> None:
    """The app is bound to loopback, where the proxy asks it; the Service leads to the proxy's port."""
    spec = pod_spec(native)
    app, sidecar = container_of(spec, "app"), container_of(spec, "nocache-proxy")
    (bind,) = [app["args"][at + 1] for at, argument in enumerate(app["args"]) if argument == "--bind"]
    assert bind.startswith("127.0.0.1:")
    assert "ports" not in app
    assert {"name": "NOCACHE_PROXY_UPSTREAM", "value": f"http://{bind}"} in sidecar["env"]
    (port,) = one(native, "Service")["spec"]["ports"]
    assert port["targetPort"] == ports_of(sidecar)["http"] == image_port("LISTEN")


def test_admin_port_is_for_the_monitoring_alone(native: list[Manifest]) -> None:
    """No Service with an address has it, and the NetworkPolicy names who may ask."""
    sidecar = container_of(pod_spec(native), "nocache-proxy")
    assert ports_of(sidecar)["admin"] == image_port("ADMIN")
    policy = one(native, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    for_all = [port["port"] for rule in policy["ingress"] if "from" not in rule for port in rule["ports"]]
    for_some = [port["port"] for rule in policy["ingress"] if "from" in rule for port in rule["ports"]]
    assert for_all == [ports_of(sidecar)["http"]]
    assert for_some == [ports_of(sidecar)["admin"]]


def ports_of(container: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def image_port(name: str) -> int:
    found = re.search(rf"NOCACHE_PROXY_{name}=0\.0\.0\.0:(\d+)", (ROOT / "Dockerfile").read_text())
    assert found
    return int(found[1])


@pytest.mark.parametrize("name", ["app", "nocache-proxy"])
def test_containers_are_locked_down(native: list[Manifest], name: str) -> None:
    """What the restricted Pod Security Standard asks for, and a read-only root file system."""
    spec = pod_spec(native)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container_of(spec, name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert f"USER {spec['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()


def test_autoscaler_has_what_it_computes_with(native: list[Manifest]) -> None:
    """Utilization is of requests, which every container must state; and no replicas fight with it."""
    spec = pod_spec(native)
    assert all("cpu" in each["resources"]["requests"] for each in spec["initContainers"] + spec["containers"])
    assert "replicas" not in one(native, "Deployment")["spec"]
    assert one(native, "HorizontalPodAutoscaler")["spec"]["minReplicas"] > 1, "else a drain leaves nobody"


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy"])
def test_selectors_select_the_pods(native: list[Manifest], kind: str) -> None:
    labels = one(native, "Deployment")["spec"]["template"]["metadata"]["labels"]
    read: dict[str, Callable[[Any], dict[str, str]]] = {
        "Service": lambda spec: spec["selector"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
    }
    selector = read[kind](one(native, kind)["spec"])
    assert selector
    assert selector.items() <= labels.items()


def test_service_monitor_finds_the_admin_port(tmp_path: Path) -> None:
    """It is a CRD, without a schema in Kubernetes: its shape is checked, and where it leads."""
    manifests = render(tmp_path, "prometheus-operator", "plain-container")
    monitor = one(manifests, "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    jsonschema.validate(monitor["spec"], SERVICE_MONITOR)

    labels = monitor["spec"]["selector"]["matchLabels"]
    (service,) = [
        manifest
        for manifest in manifests
        if manifest["kind"] == "Service" and labels.items() <= manifest["metadata"]["labels"].items()
    ]
    kubernetes.validate(service, kubernetes.latest_version(), strict=True)
    (endpoint,) = monitor["spec"]["endpoints"]
    ports = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    assert ports[endpoint["port"]] == ports_of(container_of(pod_spec(manifests), "nocache-proxy"))["admin"]
    assert service["spec"]["clusterIP"] == "None"
