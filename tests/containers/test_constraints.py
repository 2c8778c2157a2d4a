"""config/constraints.txt pins what pyproject.toml asks for, and only what it allows."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement

from tests.containers.podman import ROOT

PINS = [
    Requirement(line)
    for line in (ROOT / "config" / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


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
