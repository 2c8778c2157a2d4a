"""No target of log lines holds its writer up: lines are kept up to a bound, then given up and counted, and none is torn."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pty
import socket
import threading
import time
import tty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway import log_target
from proxy.gateway.log_target import MAX_LINE_BYTES, open_target, quoted_within, standard_error

PENDING = 20_000


def line(number: int) -> bytes:
    return b'{"number": %d, "filler": "%s"}\n' % (number, b"x" * 200)


def numbers(data: bytes) -> list[int]:
    return [json.loads(some)["number"] for some in data.splitlines()]


def read_available(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(descriptor, 65536):
            data += piece
    return data


def wait_until(holds) -> None:
    while not holds():
        time.sleep(0.001)


class Pipe:
    """A small pipe that nobody reads yet."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.reading, fcntl.F_SETPIPE_SZ, 4096)

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture(autouse=True)
def bounds(monkeypatch):
    monkeypatch.setattr(log_target, "_MAX_PENDING_BYTES", PENDING)
    monkeypatch.setattr(log_target, "_CLOSE_S", 0.05)


@pytest.fixture
def pipe(monkeypatch):
    """Standard output is it."""
    made = Pipe()
    monkeypatch.setattr(log_target, "STANDARD_OUTPUT", made.writing)
    yield made
    made.close()


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


class Test_File:
    def test_lines_arrive_in_order_and_all_of_them_before_the_end(self, tmp_path):
        path = tmp_path / "log"
        target = open_target(path)
        for number in range(50):
            target.write(line(number))
        target.close()
        assert numbers(path.read_bytes()) == list(range(50))

    def test_file_that_cannot_be_opened_again_leaves_the_old_one_in_use(self, tmp_path, caplog):
        """A descriptor closed too early would be the next connection's: log lines in a response."""
        directory = tmp_path / "logs"
        directory.mkdir()
        target = open_target(directory / "log")
        directory.rename(tmp_path / "moved")
        target.write(line(0))
        target.reopen()
        target.write(line(1))
        target.close()
        assert numbers((tmp_path / "moved" / "log").read_bytes()) == [0, 1]
        assert ["cannot be opened again" in record.message for record in caplog.records] == [True]

    def test_full_disk_is_tried_again_and_its_lines_are_counted_in_the_end(self, caplog):
        target = open_target(log_target.Path("/dev/full"))
        target.write(line(0) + line(1))
        wait_until(lambda: caplog.records)
        target.write(line(2))
        assert target.dropped == 0
        target.close()
        wait_until(lambda: target.dropped == 3)
        assert {record.message for record in caplog.records} == {
            "log /dev/full cannot be written: No space left on device"
        }

    @pytest.mark.parametrize("kind", ["directory", "missing", "socket"])
    def test_what_cannot_be_opened_is_told_at_once(self, tmp_path, kind):
        path = tmp_path / "target" / "log" if kind == "missing" else tmp_path
        if kind == "socket":
            path = tmp_path / "socket"
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
        with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's affair
            open_target(path)


class Test_Open_that_hangs:
    """As on a network file system whose server is gone."""

    @pytest.fixture
    def hanging(self, monkeypatch):
        goes_on, opens = threading.Event(), log_target._open

        def hang(path):
            goes_on.wait()
            return opens(path)

        monkeypatch.setattr(log_target, "_OPEN_S", 0.01)
        monkeypatch.setattr(log_target, "_open", hang)
        yield goes_on
        goes_on.set()

    def test_neither_start_nor_writing_nor_end_waits_for_it(self, tmp_path, hanging, caplog):
        target = open_target(tmp_path / "log")
        for number in range(1000):
            target.write(line(number))
        target.reopen()
        target.close()
        assert "lines wait for it" in caplog.text
        assert target.dropped > 0

    def test_lines_of_meanwhile_arrive_when_it_goes_on(self, tmp_path, hanging):
        path = tmp_path / "log"
        target = open_target(path)
        target.write(line(0))
        hanging.set()
        target.write(line(1))
        target.close()
        wait_until(lambda: path.exists() and numbers(path.read_bytes()) == [0, 1])

    def test_one_that_fails_in_the_end_is_told_and_its_lines_are_counted(self, tmp_path, hanging, caplog):
        target = open_target(tmp_path / "missing" / "log")
        target.write(line(0))
        hanging.set()
        wait_until(lambda: target.dropped == 1)
        assert f"cannot be opened: {os.strerror(errno.ENOENT)}" in caplog.text
        target.close()


class Test_Stalled_reader:
    @pytest.fixture(params=["pipe", "fifo", "socket", "terminal", "standard error", "pipe by its name"])
    def stalled(self, request, monkeypatch, tmp_path):
        """A target of each kind, and the descriptor at which nobody reads."""
        made = Pipe()
        reading, writing = made.reading, made.writing
        path = None
        if request.param == "fifo":
            path = tmp_path / "fifo"
            os.mkfifo(path)
            reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
        elif request.param == "socket":
            ours, theirs = socket.socketpair()
            reading, writing = theirs.detach(), ours.detach()
        elif request.param == "terminal":
            reading, writing = pty.openpty()
            tty.setraw(writing)
            path = log_target.Path(os.ttyname(writing))
        elif request.param == "pipe by its name":
            path = log_target.Path(f"/proc/self/fd/{writing}")
        monkeypatch.setattr(log_target, "STANDARD_OUTPUT", writing)
        monkeypatch.setattr(log_target, "STANDARD_ERROR", writing)
        target = standard_error() if request.param == "standard error" else open_target(path)
        yield target, reading
        for descriptor in {reading, writing, made.reading, made.writing}:
            os.close(descriptor)

    def test_writing_never_waits_and_what_is_too_much_is_counted_and_nothing_is_torn(self, stalled):
        target, reading = stalled
        for number in range(5000):
            target.write(line(number))
        assert target.dropped > 0
        data = b""
        while piece := read_until_quiet(target, reading):
            data += piece
        found = numbers(data)
        assert found == sorted(found)
        assert found[0] == 0
        assert len(found) + target.dropped == 5000
        target.close()

    def test_lines_within_the_bound_arrive_once_it_reads_on(self, stalled):
        target, reading = stalled
        for number in range(60):
            target.write(line(number))
        data = b""
        while piece := read_until_quiet(target, reading):
            data += piece
        assert numbers(data) == list(range(60))
        assert target.dropped == 0
        target.close()

    def test_nobody_elses_descriptor_is_told_not_to_wait(self, stalled):
        target, _ = stalled
        target.write(line(0))
        assert os.get_blocking(log_target.STANDARD_OUTPUT)
        target.close()

    def test_end_waits_for_a_moment_only(self, stalled):
        target, _ = stalled
        for number in range(60):
            target.write(line(number))
        target.close()


def read_until_quiet(target, descriptor: int) -> bytes:
    """What comes until the target has nothing left to write."""
    data = b""
    for _ in range(20):
        target.write(b"")
        data += read_available(descriptor)
        time.sleep(0.002)
    return data


class Test_Pipe:
    def test_slow_reader_still_gets_the_last_lines_at_the_end(self, pipe, monkeypatch):
        monkeypatch.setattr(log_target, "_CLOSE_S", 60)
        target = open_target(None)
        for number in range(60):
            target.write(line(number))
        os.close(pipe.writing)
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(iter(lambda: os.read(pipe.reading, 512), b"")))
        reader.start()
        target.close()
        reader.join()
        assert numbers(b"".join(found)) == list(range(60))

    def test_reader_that_has_left_is_not_waited_for(self, pipe, monkeypatch):
        monkeypatch.setattr(log_target, "_CLOSE_S", 3600)
        target = open_target(None)
        for number in range(60):
            target.write(line(number))
        os.close(pipe.reading)
        target.close()

    def test_workers_that_share_one_leave_each_others_lines_whole(self, pipe, monkeypatch):
        """Of what is longer than PIPE_BUF the pipe may take a part, and the other worker writes next."""
        monkeypatch.setattr(log_target, "_MAX_PENDING_BYTES", 1 << 20)
        targets = [open_target(None), open_target(None)]
        data = b""
        for number in range(0, 600, 10):
            for target in targets:
                target.write(b"".join(line(some) for some in range(number, number + 10)))
            data += os.read(pipe.reading, 3000)
            for target in targets:
                target.write(b"")
        while piece := read_available(pipe.reading):
            data += piece
            for target in targets:
                target.write(b"")
        for target in targets:
            target.close()
        assert sorted(numbers(data)) == sorted([*range(600)] * 2)

    def test_one_that_is_not_ours_to_open_is_left_to_a_thread(self, pipe, monkeypatch):
        """As in a container whose pipe belongs to another user."""
        monkeypatch.setattr(log_target.os, "open", refuse)
        target = open_target(None)
        for number in range(60):
            target.write(line(number))
        data = b""
        while piece := read_until_quiet(target, pipe.reading):
            data += piece
        target.close()
        assert numbers(data) == list(range(60))


def refuse(*_, **__):
    raise PermissionError


class Test_Fifo:
    def test_lines_wait_for_a_first_reader_and_for_one_that_comes_after_it(self, fifo):
        target = open_target(fifo)
        for number in range(3):
            target.write(line(number))
            reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            assert numbers(read_available(reading)) == [number]
            os.close(reading)
        target.close()


class TestQuotedWithin:
    @given(
        st.text(st.characters(exclude_categories=())), st.integers(40, 200), st.sampled_from(["start", "end"])
    )
    def test_it_is_json_within_the_limit_and_says_how_much_is_left_out(self, text, limit, keeps):
        found = quoted_within(text, limit, keeps=keeps)
        assert len(found) <= limit
        whole = json.loads(found)
        if whole == text:
            return
        start, end = whole.split("...[") if keeps == "start" else whole.split("]...")[::-1]
        count = int("".join(character for character in end if character.isdigit()))
        assert (text.startswith if keeps == "start" else text.endswith)(start)
        assert len(start) + count == len(text)

    def test_what_fits_is_left_as_it_is(self):
        assert quoted_within("x" * 38, 40) == f'"{"x" * 38}"'

    def test_much_is_kept(self):
        assert len(quoted_within("/" * MAX_LINE_BYTES, 2048)) > 2000
