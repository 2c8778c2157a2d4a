"""The access log, DESIGN section 7: one entry one line, whatever a client sends, and never in the way.

The reader of a pipe may be slow, stall or leave: lines are then kept up to a bound, given up and counted
beyond it, and never torn.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway import access_log
from proxy.gateway.access_log import AccessLog, Entry

KEYS = [
    *["ts", "method", "target", "status", "upstream_status", "duration_s", "upstream_s", "bytes_in"],
    *["bytes_out", "client", "rule", "policy", "changed", "error"],
]
NOON_S = 1_795_435_200.25  # 2026-11-23T12:00:00.250Z
ENTRY = Entry(
    ts_s=NOON_S,
    method="GET",
    target="/a?b=c",
    status=200,
    upstream_status=304,
    duration_s=0.0123456,
    upstream_s=0.01,
    bytes_in=5,
    bytes_out=512,
    client="203.0.113.7",
    rule="ajax",
    policy="classic",
    changed=9,
    error="",
    observed="",
)
NOTHING = Entry(NOON_S, "", "", 0, 0, 0.0, 0.0, 0, 0, "", "", "", 0, "", "")
HOSTILE = [
    '/"quoted"',
    "/back\\slash",
    '/","status":200,"x":"',
    "/\r\nGET /forged HTTP/1.1",
    "/\x00\x07\x1b[2Jterminal\x7f",
    "/\x85\u2028\u2029line separators",
    b"/caf\xe9\xff".decode("utf-8", "surrogateescape"),
    "/日本\U0001f600",
    "/\ud800",
]


def lines(form, *entries, path) -> list[str]:
    log = AccessLog(form, path)
    for entry in entries:
        log.write(entry)
    log.close()
    written = path.read_bytes()
    assert written.isascii()
    assert written.endswith(b"\n")
    return written.decode().splitlines()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


class Test_Json:  # noqa: N801 - read as a sentence
    def test_line_is_an_object_with_exactly_the_documented_keys_in_their_order(self, path):
        (line,) = lines("json", ENTRY, path=path)
        assert list(json.loads(line).items()) == [
            ("ts", "2026-11-23T12:00:00.250Z"),
            ("method", "GET"),
            ("target", "/a?b=c"),
            ("status", 200),
            ("upstream_status", 304),
            ("duration_s", 0.012346),
            ("upstream_s", 0.01),
            ("bytes_in", 5),
            ("bytes_out", 512),
            ("client", "203.0.113.7"),
            ("rule", "ajax"),
            ("policy", "classic"),
            ("changed", 9),
            ("error", None),
        ]

    def test_what_is_not_there_is_null(self, path):
        (line,) = lines("json", NOTHING, path=path)
        found = json.loads(line)
        assert list(found) == KEYS
        assert [key for key, value in found.items() if value is None] == [
            "status",
            "upstream_status",
            "upstream_s",
            "rule",
            "policy",
            "error",
        ]

    def test_observing_rule_is_named_where_there_is_one(self, path):
        (line,) = lines("json", ENTRY._replace(observed="tried-out"), path=path)
        assert list(json.loads(line)) == [*KEYS, "observed"]
        assert json.loads(line)["observed"] == "tried-out"

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_that_a_client_or_the_app_sends_breaks_a_line(self, path, text):
        hostile = ENTRY._replace(target=text, error=text, rule=text, policy=text, observed=text)
        first, second = lines("json", hostile, ENTRY, path=path)
        found = json.loads(first)
        assert [found[key] for key in ("target", "error", "rule", "policy", "observed")] == [text] * 5
        assert json.loads(second)["target"] == "/a?b=c"

    @given(st.text(st.characters(exclude_categories=())), st.integers(0, 2**40), st.floats(0, 1e6))
    def test_every_line_is_json_and_says_what_the_entry_says(self, text, number, seconds):
        entry = ENTRY._replace(target=text, error=text, bytes_out=number, duration_s=seconds)
        line = access_log._json("ts", entry)
        assert line.count("\n") == 1
        found = json.loads(line)
        assert (found["target"], found["bytes_out"]) == (text, number)
        assert found["duration_s"] == pytest.approx(seconds, abs=1e-6)

    def test_time_is_that_of_each_entry_in_milliseconds(self, path):
        entries = [ENTRY._replace(ts_s=NOON_S + later) for later in (0, 0.0009, 0.7, 1, 59.999, -1)]
        assert [json.loads(line)["ts"][17:] for line in lines("json", *entries, path=path)] == [
            "00.250Z",
            "00.250Z",
            "00.950Z",
            "01.250Z",
            "00.249Z",
            "59.250Z",
        ]


class Test_Text:  # noqa: N801
    START = "2026-11-23T12:00:00.250Z 203.0.113.7 GET /a?b=c 200 12.3ms in=5 out=512"

    @pytest.mark.parametrize(
        ("entry", "line"),
        [
            (
                ENTRY,
                START + " upstream=304 rule=ajax policy=classic changed=9",
            ),
            (
                ENTRY._replace(upstream_status=200, rule="", observed="tried", error="bad \n thing"),
                START + ' observed=tried error="bad \\n thing"',
            ),
            (NOTHING, "2026-11-23T12:00:00.250Z - - - - 0.0ms in=0 out=0"),
        ],
    )
    def test_line_is_for_people(self, path, entry, line):
        assert lines("text", entry, path=path) == [line]

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_that_a_client_or_the_app_sends_breaks_a_line_or_reaches_a_terminal(self, path, text):
        first, second = lines("text", ENTRY._replace(target=text, error=text), ENTRY, path=path)
        assert first.replace("\x7f", "").isprintable()
        assert second.startswith("2026-11-23T12:00:00.250Z 203.0.113.7 GET /a?b=c ")


class Test_File:  # noqa: N801
    def test_off_opens_and_writes_nothing(self, path):
        log = AccessLog("off", path)
        log.write(ENTRY)
        log.flush()
        log.reopen()
        log.close()
        assert not path.exists()

    def test_lines_are_appended_to_what_is_there_and_the_file_is_not_for_everybody(self, path):
        path.write_text("earlier\n")
        path.chmod(0o600)
        assert lines("json", ENTRY, path=path)[0] == "earlier"
        other = path.with_name("new.log")
        lines("json", ENTRY, path=other)
        assert other.stat().st_mode & 0o007 == 0

    def test_lines_wait_for_a_flush_or_a_full_batch(self, path):
        log = AccessLog("json", path)
        log.write(ENTRY)
        assert path.read_bytes() == b""
        log.flush()
        assert path.read_bytes().count(b"\n") == 1
        while path.read_bytes().count(b"\n") == 1:
            log.write(ENTRY)
        assert path.stat().st_size >= access_log._BATCH_BYTES
        log.close()

    def test_close_writes_what_is_pending_and_ends_it(self, path):
        log = AccessLog("json", path)
        log.write(ENTRY)
        log.close()
        assert path.read_bytes().count(b"\n") == 1
        log.write(ENTRY)
        log.close()
        assert path.read_bytes().count(b"\n") == 1

    def test_after_a_rotation_lines_go_to_the_new_file(self, path):
        log = AccessLog("json", path)
        log.write(ENTRY._replace(target="/1"))
        path.rename(path.with_suffix(".1"))
        log.write(ENTRY._replace(target="/2"))
        log.reopen()
        log.write(ENTRY._replace(target="/3"))
        log.close()
        assert path.with_suffix(".1").read_text().count("\n") == 2
        assert json.loads(path.read_text())["target"] == "/3"

    def test_file_that_cannot_be_opened_again_leaves_the_old_one_in_use(self, path, caplog):
        """A descriptor closed too early would be the next connection's: log lines in a response."""
        directory = path.parent / "logs"
        directory.mkdir()
        log = AccessLog("json", directory / "access.log")
        directory.rename(path.parent / "moved")
        log.write(ENTRY)
        log.reopen()
        log.write(ENTRY)
        log.close()
        assert (path.parent / "moved" / "access.log").read_text().count("\n") == 2
        assert ["cannot be opened again" in record.message for record in caplog.records] == [True]

    def test_full_disk_loses_lines_and_nothing_else(self):
        log = AccessLog("json")
        log._fd = os.open("/dev/full", os.O_WRONLY)
        log.write(ENTRY)
        log.flush()
        log.write(ENTRY)
        log.close()


@pytest.fixture
def stalled(monkeypatch):
    """Standard output as a small pipe that nobody reads yet; returns its other end."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    monkeypatch.setattr(access_log, "_STANDARD_OUTPUT", writing)
    monkeypatch.setattr(access_log, "_MAX_PENDING_BYTES", 20_000)
    yield reading
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            pass  # the test did


def read_available(descriptor) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while piece := os.read(descriptor, 65536):
            data += piece
    except BlockingIOError:
        pass
    return data


def test_socket_whose_reader_stalls_holds_nobody_up(monkeypatch):
    """systemd gives its journal as one: it cannot be opened anew, and its flags are others' too."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(access_log, "_STANDARD_OUTPUT", ours.fileno())
    monkeypatch.setattr(access_log, "_CLOSE_S", 0.05)
    log = AccessLog("json")
    for _ in range(30_000):
        log.write(ENTRY)
    log.close()
    assert log.dropped
    assert ours.getblocking()
    ours.close()
    data = b"".join(iter(lambda: theirs.recv(1 << 20), b""))
    theirs.close()
    assert all(json.loads(line) for line in data.splitlines()[:-1])


def test_workers_that_share_a_pipe_leave_each_others_lines_whole(monkeypatch):
    """Of what is longer than PIPE_BUF the pipe may take a part, and the other worker writes next."""
    reading, writing = os.pipe()
    monkeypatch.setattr(access_log, "_STANDARD_OUTPUT", writing)
    logs = [AccessLog("json"), AccessLog("json")]
    data = b""
    for number in range(600):
        for log in logs:
            log.write(ENTRY._replace(changed=number))
            if number % 40 == 39:
                log.flush()
        if number % 100 == 99:
            data += os.read(reading, 30_000)
    os.close(writing)
    os.set_blocking(reading, False)
    for log in logs * 20:
        log.flush()
        data += read_available(reading)
    for log in logs:
        log.close()
    data += read_available(reading)
    os.close(reading)
    found = [json.loads(line)["changed"] for line in data.splitlines()]
    assert len(found) == 1200


class Test_Stalled_reader:  # noqa: N801
    def test_writing_never_waits_and_nobody_elses_descriptor_is_changed(self, stalled):
        log = AccessLog("json")
        for _ in range(100):
            log.write(ENTRY)
            log.flush()
        assert os.get_blocking(access_log._STANDARD_OUTPUT)

    def test_lines_within_the_bound_arrive_whole_and_in_order_once_it_reads_on(self, stalled):
        log = AccessLog("json")
        for number in range(60):
            log.write(ENTRY._replace(changed=number))
            log.flush()
        data = b""
        while piece := read_available(stalled):
            data += piece
            log.flush()
        assert [json.loads(line)["changed"] for line in data.splitlines()] == list(range(60))
        assert log.dropped == 0

    def test_lines_beyond_the_bound_are_given_up_counted_and_none_is_torn(self, stalled):
        log = AccessLog("json")
        for number in range(1000):
            log.write(ENTRY._replace(changed=number))
            log.flush()
        assert sum(map(len, log._lines)) <= access_log._MAX_PENDING_BYTES
        data = b""
        while piece := read_available(stalled):
            data += piece
            log.flush()
        found = [json.loads(line)["changed"] for line in data.splitlines()]
        assert found == sorted(found)
        assert found[0] == 0
        assert 0 < len(found) < 1000
        assert log.dropped == 1000 - len(found)

    def test_slow_reader_still_gets_the_last_lines_at_close(self, stalled):
        log = AccessLog("json")
        for _ in range(60):
            log.write(ENTRY)
        log.flush()
        os.close(access_log._STANDARD_OUTPUT)
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(iter(lambda: os.read(stalled, 512), b"")))
        reader.start()
        log.close()
        reader.join()
        assert b"".join(found).count(b"\n") == 60

    def test_close_does_not_wait_for_a_reader_that_has_left(self, stalled, monkeypatch):
        monkeypatch.setattr(access_log, "_CLOSE_S", 3600)
        log = AccessLog("json")
        for _ in range(60):
            log.write(ENTRY)
        log.flush()
        os.close(stalled)
        log.close()
        assert log._fd == -1

    def test_reader_that_never_reads_is_waited_for_a_moment_only(self, stalled, monkeypatch):
        monkeypatch.setattr(access_log, "_CLOSE_S", 0.05)
        log = AccessLog("json")
        for _ in range(60):
            log.write(ENTRY)
        log.close()
        assert log._fd == -1
