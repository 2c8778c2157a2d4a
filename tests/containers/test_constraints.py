"""config/constraints.txt pins what pyproject.toml asks for, and only what it allows."""

from __future__ import annotations

import re
import tomllib

import yaml
from packaging.requirements import Requirement

from tests.containers.podman import BASE_IMAGE, ROOT

LINES = [
    line
    for line in (ROOT / "config" / "constraints.txt").read_text().replace("\\\n", "").splitlines()
    if line and not line.startswith("#")
]
PINS = [Requirement(line.partition(" ")[0]) for line in LINES]


def test_every_pin_has_the_hashes_of_its_files() -> None:
    for line in LINES:
        hashes = line.split()[1:]
        assert hashes, line
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), line


def test_image_installs_nothing_whose_hash_is_not_listed() -> None:
    (install,) = re.findall(
        r"^RUN pip wheel .*constraints\.txt$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert {"--require-hashes", "--no-deps"} <= set(install.split())


def test_base_image_is_named_by_its_digest_in_one_place() -> None:
    """Issue 16.19: a build argument with a default."""
    assert re.fullmatch(r"python:3\.13[.0-9]*-slim@sha256:[0-9a-f]{64}", BASE_IMAGE)
    services = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text())["services"]
    assert [service["build"]["args"] for service in services.values()] == 2 * [["PYTHON_IMAGE"]]


def test_every_line_pins_one_version() -> None:
    """No address and no range: what is built today is built the same tomorrow."""
    for pin in PINS:
        assert pin.url is None
        assert re.fullmatch(r"==[0-9][0-9A-Za-z.+]*", str(pin.specifier)), pin
    names = [pin.name for pin in PINS]
    assert len(names) == len(set(names))


def test_every_dependency_is_pinned_within_its_range() -> None:
    """The image's own, the demo's and the build's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["demo"],
        *project["build-system"]["requires"],
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["dependencies"],
    ]
    versions = {_normalized(pin.name): str(pin.specifier).removeprefix("==") for pin in PINS}
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(versions[_normalized(requirement.name)]), requirement


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
