"""`nocache-proxy demo` as a person runs it: real processes, what it prints, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.demo import run, stage
from proxy.demo.browser import Answer
from proxy.demo.cache import Response
from proxy.demo.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


def answers(*told: tuple[str, bool]) -> tuple[Answer, ...]:
    return tuple(Answer(Response(200, (), f'{{"name": "{name}"}}'.encode()), cached) for name, cached in told)


@pytest.mark.parametrize(
    ("told", "bug", "cure"),
    [
        ([("a", False), ("a", True), ("a", True)], True, False),
        ([("a", False), ("b", False), ("c", False)], False, True),
        ([("a", False), ("a", False), ("a", False)], False, False),
        ([("a", False), ("a", True), ("c", False)], False, False),
        ([("a", False), ("b", True), ("c", False)], False, False),
    ],
)
def test_scene_tells_bug_and_cure_apart(told: list[tuple[str, bool]], *, bug: bool, cure: bool) -> None:
    """A stale answer counts only if the browser's cache gave it, a fresh one only if the app did."""
    scene = Scene("http://site", ("a", "b", "c"), answers(*told))
    assert (scene.shows_bug, scene.shows_cure) == (bug, cure)


def test_demo_shows_the_bug_and_the_cure() -> None:
    """The whole story, by the command; exit 0 only if both were seen."""
    ended = subprocess.run(
        [sys.executable, "-m", "proxy", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    without, behind = ended.stdout.split("Behind the proxy (")
    assert without.count("from the browser cache") == 2
    assert without.count("STALE") == 2
    assert behind.count("from the app") == 3
    assert "STALE" not in behind.partition("The audit of")[0]
    assert "no-store, no-cache, must-revalidate," in behind
    logged = [json.loads(line) for line in behind.splitlines() if line.startswith("  {")]
    assert [(entry["target"], entry["rule"]) for entry in logged] == [("/file/last_uploaded", "ajax")] * 3
    assert "behind it every answer was fresh" in ended.stdout
    (shown,) = re.findall(
        r"^```text\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert without_ports(shown) in without_ports(ended.stdout)
    audit = ended.stdout.partition("The audit of GET /file/last_uploaded")[2]
    assert re.search(r"^  without the proxy +STALE: the content changed ", audit, re.MULTILINE)
    assert re.search(r"^  behind it +PROTECTED: a rule forbids reuse ", audit, re.MULTILINE)
    assert 'paths: ["/file/last_uploaded"]' in audit


def without_ports(text: str) -> str:
    return re.sub(r"(127\.0\.0\.1):\d+", r"\1:PORT", text)


def test_keep_leaves_all_running_until_ctrl_c() -> None:
    """Both sites answer while it runs; afterwards nothing listens there any more, and exit is 0."""
    with _started("demo", "--keep") as process:
        assert process.stdout is not None
        addresses = []
        for line in process.stdout:
            addresses += re.findall(r"(?:without|behind) the proxy   ?http://127\.0\.0\.1:(\d+)/", line)
            if "access log  " in line:
                break
        ports = [int(port) for port in addresses]
        assert len(ports) == 2
        assert all(_status(port) == 200 for port in ports)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, errors) == (0, "")
        assert all(_status(port) is None for port in ports)


def test_interrupted_demo_leaves_nothing_behind() -> None:
    """SIGTERM in the middle: children gone, one line, no traceback."""
    with _started("demo") as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = _children(process.pid)
        assert children
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode in (0, 1)  # 0: the story was already told
        assert "Traceback" not in errors
        assert not [child for child in children if _is_running(child)]


def test_missing_extra_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command that mends it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    output = io.StringIO()
    assert run(output=output) == 1
    assert output.getvalue() == ""
    errors = capsys.readouterr().err
    assert "pip install 'nocache-proxy[demo]'" in errors
    assert errors.count("\n") == 1


def test_proxy_that_does_not_start_is_said_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A broken rules file: exit 1, the reason, no traceback, no process left."""
    broken = tmp_path / "rules.yaml"
    broken.write_text("version: 1\nnonsense: 2\n")
    monkeypatch.setattr(stage, "shipped_rules", lambda: broken)
    assert run(output=io.StringIO()) == 1
    errors = capsys.readouterr().err
    assert "nonsense" in errors
    assert "Traceback" not in errors


def test_demo_fails_if_the_cure_is_not_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rules that match nothing: the stale answer comes through the proxy as well, and that is an error."""
    useless = tmp_path / "rules.yaml"
    useless.write_text("version: 1\nrules:\n  - {name: elsewhere, match: {paths: [/elsewhere]}}\n")
    monkeypatch.setattr(stage, "shipped_rules", lambda: useless)
    output = io.StringIO()
    assert run(output=output) == 1
    assert "behind it NOT every answer was fresh" in output.getvalue()


def test_keep_ends_with_an_error_if_a_process_ends_by_itself() -> None:
    """Nobody should look at half a demo."""
    with _started("demo", "--keep") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "access log  " in line:
                break
        (gunicorn,) = (pid for pid in _children(process.pid) if b"gunicorn" in _command_line(pid))
        os.kill(gunicorn, signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, errors) == (1, "nocache-proxy demo: gunicorn ended by itself\n")


def test_shipped_rules_are_those_of_the_source_tree() -> None:
    """In the source tree there is one copy; the wheel takes it along beside the demo."""
    assert stage.shipped_rules().read_bytes() == (ROOT / "config/rules.yaml").read_bytes()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["config/rules.yaml"] == "proxy/demo/rules.yaml"
    assert not (ROOT / "proxy/demo/rules.yaml").exists()


def test_packaged_rules_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installed package takes its own copy, whatever lies around beside it."""
    packaged = tmp_path / "proxy/demo/rules.yaml"
    packaged.parent.mkdir(parents=True)
    monkeypatch.setattr(stage, "__file__", str(packaged.with_name("stage.py")))
    packaged.write_text("version: 1\n")
    assert stage.shipped_rules() == packaged


@contextlib.contextmanager
def _started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def _status(port: int) -> int | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return int(connection.recv(65536).split(b" ")[1])
    except ConnectionRefusedError:
        return None


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
