"""The unit file in `config/systemd/` fits what `serve` does: flags, limits, exit codes, the time that a drain takes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from proxy.cli import CONFIG, cli
from proxy.service.descriptors import fit_connections
from proxy.settings import Settings, Upstream

UNIT = Path(__file__).parents[2] / "config/systemd/nocache-proxy.service"


@pytest.fixture(scope="module")
def unit():
    """The values of each key, in order; the names of sections do not matter here."""
    values = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            values[key].append(value)
    return values


@pytest.fixture
def settings(unit, monkeypatch):
    """What `serve` is told by the unit."""
    for assignment in unit["Environment"]:
        monkeypatch.setenv(*assignment.split("=", 1))
    (command,) = unit["ExecStart"]
    program, name, *words = command.split()
    assert Path(program).name == "nocache-proxy"
    return cli.commands[name].make_context(name, words).params


def test_every_variable_is_a_flag_of_serve(unit, settings):
    known = {parameter.envvar for parameter in cli.commands["serve"].params}
    assert {assignment.split("=", 1)[0] for assignment in unit["Environment"]} <= known
    assert str(settings["rules"]) == "/etc/nocache-proxy/rules.yaml"


def test_drain_ends_before_systemd_loses_patience(unit, settings):
    (patience,) = unit["TimeoutStopSec"]
    assert int(patience) > settings["drain_delay_s"] + settings["drain_timeout_s"]
    assert unit["KillMode"] == ["mixed"], "only the supervisor is told to drain"


def test_start_that_cannot_succeed_is_not_repeated(unit):
    (codes,) = unit["RestartPreventExitStatus"]
    assert set(map(int, codes.split())) == {2, CONFIG}


def test_files_are_enough_for_the_default_of_max_connections(unit):
    default = Settings(upstream=Upstream("http", "127.0.0.1", 5000))
    (limit,) = unit["LimitNOFILE"]
    assert fit_connections(default, int(limit)) is default
