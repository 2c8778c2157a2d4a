"""The contract of the watched rules file: whatever replaces it is found, and nothing bad ever takes effect."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.rules.loading.diagnostics import RulesError
from proxy.service import rules_source
from proxy.service.rules_source import RulesSource, mount_that_never_changes

GOOD = "version: 1\nrules: [{name: %s, match: {paths: [/a]}}]\n"
BAD = "version: 1\nrules: [{nam: %s}]\n"
TESTED = GOOD + "tests: [{request: {path: /b}, expect: {rule: %s}}]\n"


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "config" / "rules.yaml"
    path.parent.mkdir()
    path.write_text(GOOD % "first")
    return path


@pytest.fixture
def source(path) -> RulesSource:
    return RulesSource(path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Two looks that agree are enough."""
    monkeypatch.setattr(rules_source, "_STILL_S", 0.0)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def look(source: RulesSource) -> bool | None:
    """Look until a file at rest has been read: whether it was taken, `None` when it brought nothing new."""
    data = source.has_changed() or source.has_changed()
    return None if data is None else source.reload(data)


def names(source: RulesSource) -> list[str]:
    return [rule.name for rule in source.rules_file.rules]


def swap_directory(path: Path, text: str, number: int) -> None:
    """Replace a ConfigMap's content as the kubelet does: a new directory, and one rename of a symbolic link."""
    fresh = path.parent / f"..{number}"
    fresh.mkdir()
    (fresh / path.name).write_text(text)
    link = path.parent / "..data_tmp"
    link.symlink_to(fresh.name)
    link.rename(path.parent / "..data")


def test_file_that_nobody_touches_brings_nothing(source):
    assert [look(source) for _ in range(3)] == [None] * 3
    assert source.status.reloads == 0


def test_edit_in_place_is_taken(source, path):
    path.write_text(GOOD % "second")
    assert look(source) is True
    assert names(source) == ["second"]
    assert (source.status.reloads, source.status.last_reload_ok) == (1, True)
    assert source.status.digest == source.rules_file.digest


def test_file_renamed_over_it_is_taken(source, path):
    fresh = path.with_suffix(".new")
    fresh.write_text(GOOD % "second")
    fresh.rename(path)
    assert look(source) is True
    assert names(source) == ["second"]


def test_symbolic_link_swapped_by_the_kubelet_is_taken(tmp_path):
    path = tmp_path / "mounted" / "rules.yaml"
    path.parent.mkdir()
    swap_directory(path, GOOD % "first", 1)
    path.symlink_to("..data/rules.yaml")
    source = RulesSource(path)
    assert look(source) is None
    swap_directory(path, GOOD % "second", 2)
    assert look(source) is True
    assert names(source) == ["second"]


def test_file_gone_for_a_moment_changes_nothing(source, path):
    path.unlink()
    assert source.has_changed() is None
    path.write_text(GOOD % "first")
    assert look(source) is None
    assert source.status.last_reload_ok
    assert names(source) == ["first"]


def test_file_that_stays_away_is_told_once_and_its_return_ends_it(source, path, caplog):
    path.unlink()
    assert [look(source) for _ in range(3)] == [None] * 3
    assert (source.status.last_error, source.status.failed_reloads) == (f"{path}: no such file", 1)
    assert len(caplog.records) == 1
    assert names(source) == ["first"]
    path.write_text(GOOD % "first")
    assert look(source) is True
    assert (source.status.last_reload_ok, source.status.last_error) == (True, "")


def test_file_that_is_being_written_is_not_read_before_it_rests(source, path):
    """A prefix of a file may well be a valid file with fewer rules."""
    whole = GOOD % "second" + "# the rest\n" * 5
    with path.open("w") as file:
        for piece in whole.splitlines(keepends=True):
            file.write(piece)
            file.flush()
            assert source.has_changed() is None
    assert look(source) is True
    assert source.data.decode() == whole


def test_file_written_in_two_halves_takes_effect_once(source, path, monkeypatch):
    """Half a file may be a valid one with fewer rules; who writes in place may pause."""
    now_s = time.monotonic()
    monkeypatch.setattr(rules_source, "_STILL_S", 0.5)
    monkeypatch.setattr(rules_source, "time", SimpleNamespace(monotonic=lambda: now_s, time=time.time))
    whole = "version: 1\nrules:\n  - {name: one}\n  - {name: two}\n"
    for text in (whole[:37], whole):
        path.write_text(text)
        for _ in range(5):
            assert source.has_changed() is None
            now_s += 0.09
    now_s += 0.1
    assert source.reload(source.has_changed()) is True
    assert names(source) == ["one", "two"]
    assert source.status.reloads == 1


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (os.mkfifo, "found a named pipe, allowed: a file"),
        (lambda path: path.symlink_to("/dev/zero"), "found a device, allowed: a file"),
        (bind, "found a socket, allowed: a file"),
        (Path.mkdir, "found a directory, allowed: a file"),
    ],
)
def test_what_is_no_file_is_refused_at_the_start_and_later(source, path, make, found):
    path.unlink()
    make(path)
    with pytest.raises(RulesError, match=found):
        RulesSource(path)
    assert look(source) is None
    assert found in source.status.last_error


def test_half_a_file_that_rests_is_refused_and_the_whole_one_taken(source, path):
    path.write_text((TESTED % ("second", "null"))[:40])
    assert look(source) is False
    assert names(source) == ["first"]
    path.write_text(TESTED % ("second", "null"))
    assert look(source) is True
    assert names(source) == ["second"]


def test_bad_file_keeps_the_old_rules_with_one_log_line_for_each_content(source, path, caplog):
    digest = source.status.digest
    path.write_text(BAD % "a")
    assert look(source) is False
    assert [look(source) for _ in range(3)] == [None] * 3
    path.write_text(BAD % "other")
    assert look(source) is False
    assert names(source) == ["first"]
    assert (source.status.digest, source.status.last_reload_ok) == (digest, False)
    assert source.status.failed_reloads == 2
    assert f"{path}:2:10: rules[0].nam: unknown key" in source.status.last_error
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all(f"those of digest {digest} stay in force" in error and "\n" not in error for error in errors)


def test_return_to_the_rules_in_force_ends_the_failure(source, path):
    path.write_text(BAD % "a")
    assert look(source) is False
    path.write_text(GOOD % "first")
    assert look(source) is True
    assert (source.status.last_reload_ok, source.status.last_error) == (True, "")


def test_file_whose_own_test_fails_keeps_the_old_rules(source, path):
    path.write_text(TESTED % ("second", "second"))
    assert look(source) is False
    assert names(source) == ["first"]
    assert "tests[0].expect.rule: test failed: expected second, got none" in source.status.last_error


def test_file_that_may_not_be_read_for_a_while_is_taken_when_it_may(source, path, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise RulesError(
            [rules_source.loader.Mistake(0, 0, "", "found a file that may not be read", source=str(path))]
        )

    with monkeypatch.context() as patch:
        patch.setattr(rules_source.loader, "read_bytes", refuse)
        path.touch()
        assert look(source) is None
        assert not source.status.last_reload_ok
    path.touch()
    assert look(source) is True
    assert source.status.last_reload_ok


def test_change_that_keeps_the_modification_time_is_found(source, path):
    assert look(source) is None
    before = path.stat()
    path.write_text(GOOD % "tenth")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(source) is True
    assert names(source) == ["tenth"]


def test_change_that_shows_in_no_attribute_is_found_by_content(source, path, monkeypatch):
    """Some mounts keep size and times: the bytes are read again every so often."""
    monkeypatch.setattr(rules_source, "_stat", lambda _: (1,))
    assert look(source) is None
    path.write_text(GOOD % "tenth")
    assert look(source) is None
    monkeypatch.setattr(rules_source, "_READ_ANYWAY_S", 0.0)
    assert look(source) is True


def test_forced_reload_reads_and_tells_even_what_has_not_changed(source, path, caplog):
    assert source.reload() is True
    path.write_text(BAD % "a")
    assert source.reload() is False
    assert source.reload() is False
    assert look(source) is None
    assert (source.status.reloads, source.status.failed_reloads) == (1, 2)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_mistake_of_the_proxy_itself_keeps_the_old_rules(source, path, monkeypatch, caplog):
    """Watching goes on after any exception, and its traceback is in the log."""
    path.write_text(GOOD % "second")
    with monkeypatch.context() as patch:
        patch.setattr(rules_source.loader, "loads", lambda *_: 1 / 0)
        assert look(source) is False
    assert names(source) == ["first"]
    assert "ZeroDivisionError" in source.status.last_error
    assert caplog.records[-1].exc_info


@pytest.mark.parametrize("text", [BAD % "a", TESTED % ("a", "a"), "", "rules: ["])
def test_rules_that_cannot_be_used_at_the_start_are_an_error(path, text):
    path.write_text(text)
    with pytest.raises(RulesError):
        RulesSource(path)


def mountinfo(tmp_path: Path, *mount_points: object) -> Path:
    lines = [f"36 35 98:0 /x {point} rw,noatime - ext4 /dev/root rw" for point in mount_points]
    file = tmp_path / "mountinfo"
    file.write_text("\n".join(["malformed", *lines]) + "\n")
    return file


def test_single_file_that_is_a_mount_is_recognised(tmp_path, path):
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    assert mount_that_never_changes(path, mountinfo(tmp_path, "/", path))
    assert mount_that_never_changes(link, mountinfo(tmp_path, "/", path))


def test_mounted_directory_is_no_such_mount(tmp_path, path):
    assert not mount_that_never_changes(path, mountinfo(tmp_path, "/", path.parent))
    assert not mount_that_never_changes(path, tmp_path / "no-mountinfo")
    assert not mount_that_never_changes(path)


def test_mount_point_with_a_space_is_recognised(tmp_path):
    path = tmp_path / "my rules.yaml"
    path.write_text(GOOD % "first")
    assert mount_that_never_changes(path, mountinfo(tmp_path, str(path).replace(" ", r"\040")))
