"""The Kubernetes manifests as `kubectl apply -k config` would send them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.containers.podman import ROOT, run
from tests.support.programs import program

Manifest = dict[str, Any]


def render(directory: Path, *components: str) -> list[Manifest]:
    """Build config/kustomization.yaml with the real kustomize.

    Args:
        directory: where a copy may go.
        components: those of the list in the file to take out of their comment, as a user would.
    """
    kubectl = program("kubectl")
    config = directory / "config"
    shutil.copytree(ROOT / "config", config)
    kustomization = config / "kustomization.yaml"
    text = kustomization.read_text()
    for line in ("components:", *(f"  - kubernetes/{component}" for component in components)):
        assert text.count(f"# {line}") == 1, f"the file offers no {line!r}"
        text = text.replace(f"# {line}", line) if components else text
    kustomization.write_text(text)
    return [manifest for manifest in yaml.safe_load_all(run(kubectl, "kustomize", str(config))) if manifest]


def one(manifests: list[Manifest], kind: str, name: str = "legacy-app") -> Manifest:
    """The one of this kind and name."""
    (found,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod_spec(manifests: list[Manifest]) -> Manifest:
    """What the Deployment makes pods of."""
    spec: Manifest = one(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def container_of(spec: Manifest, name: str) -> Manifest:
    """A container of a pod, a native sidecar included."""
    found: list[Manifest] = [*spec.get("initContainers", []), *spec["containers"]]
    (container,) = [each for each in found if each["name"] == name]
    return container
