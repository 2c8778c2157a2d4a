"""The access log: one record one line, whatever a client sends, and never in the way.

What becomes of a line whose reader is slow is in `test_log_target.py`.
"""

from __future__ import annotations

import json
import re
import select
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway import access_log
from proxy.gateway.access_log import AccessLog
from proxy.gateway.failures import Failure
from proxy.gateway.log_fields import json_renderer
from proxy.gateway.record import Record
from proxy.message.request import RequestHead, RequestTable
from proxy.message.target import readable
from proxy.settings import LOG_FIELDS

KEYS = list(LOG_FIELDS)
NOON_S = 1_795_435_200.25  # 2026-11-23T12:00:00.250Z


def asked(user_agent: bytes, referer: bytes, request_id: bytes) -> RequestHead:
    """A request with these fields, which need not be possible ones."""
    head = RequestTable().read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    names = (b"user-agent", b"referer", b"x-request-id")
    head.noted = {
        name: [(0, value)] for name, value in zip(names, (user_agent, referer, request_id), strict=True)
    }
    return head


KNOWN: dict[str, Any] = {
    "ended_s": NOON_S,
    "method": "GET",
    "target": b"/a?b=c",
    "status": 200,
    "upstream_status": 304,
    "duration_s": 0.0123456,
    "upstream_s": 0.01,
    "bytes_in": 5,
    "bytes_out": 512,
    "client": "203.0.113.7",
    "rule": "ajax",
    "policy": "classic",
    "changed": 9,
    "host": b"app.example",
    "request": asked(b"MSIE 8.0", b"http://app.example/page?secret=1#there", b"4711"),
}


def record(**changes: Any) -> Record:
    """A record with everything in it, but for what is changed."""
    made = Record()
    for name, value in {**KNOWN, **changes}.items():
        setattr(made, name, value)
    made.let_go()
    return made


NOTHING = Record()
NOTHING.ended_s = NOON_S


def failed(text: str) -> Failure:
    return Failure("client", 400, text, "", "")


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


def lines(form, *records, path) -> list[str]:
    log = AccessLog(form, path)
    for each in records:
        log.write(each)
    log.close()
    written = path.read_bytes()
    assert written.isascii()
    assert written.endswith(b"\n")
    return written.decode().splitlines()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


def wait_until(holds) -> None:
    """The target's thread writes in its own time."""
    while not holds():
        time.sleep(0.001)


json_line = json_renderer()


class Test_Json:
    def test_line_is_an_object_with_exactly_the_documented_keys_in_their_order(self, path):
        failure = failed("upstream_closed").with_detail("EOF")
        (line,) = lines("json", record(failure=failure), path=path)
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
            ("peer", None),
            ("host", "app.example"),
            ("user_agent", "MSIE 8.0"),
            ("referer", "http://app.example/page"),
            ("request_id", "4711"),
            ("rule", "ajax"),
            ("policy", "classic"),
            ("observed", None),
            ("changed", 9),
            ("error", "upstream_closed"),
            ("detail", "EOF"),
        ]

    def test_what_is_not_there_is_null(self, path):
        (line,) = lines("json", NOTHING, path=path)
        found = json.loads(line)
        assert list(found) == KEYS
        assert [key for key, value in found.items() if value is None] == [
            "method",
            "target",
            "status",
            "upstream_status",
            "upstream_s",
            "client",
            "peer",
            "host",
            "user_agent",
            "referer",
            "request_id",
            "rule",
            "policy",
            "observed",
            "error",
            "detail",
        ]

    def test_only_the_chosen_fields_are_there_in_the_order_of_the_choice(self, path):
        log = AccessLog("json", path, fields=("status", "ts", "target"))
        log.write(record())
        log.close()
        assert path.read_text() == '{"status":200,"ts":"2026-11-23T12:00:00.250Z","target":"/a?b=c"}\n'

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_that_a_client_or_the_app_sends_breaks_a_line(self, path, text):
        hostile = record(
            target=text.encode("utf-8", "surrogatepass"),
            failure=failed(text),
            rule=text,
            policy=text,
            observed=text,
        )
        first, second = lines("json", hostile, record(), path=path)
        found = json.loads(first)
        assert [found[key] for key in ("error", "rule", "policy", "observed")] == [text] * 4
        assert found["target"] == readable(hostile.target)
        assert json.loads(second)["target"] == "/a?b=c"

    @given(
        st.binary(),
        st.text(st.characters(exclude_categories=()), max_size=40),
        st.integers(0, 2**40),
        st.floats(0, 1e6),
    )
    def test_every_line_is_json_and_says_what_the_record_says(self, target, text, number, seconds):
        line = json_line(
            "ts", record(target=target, failure=failed(text), bytes_out=number, duration_s=seconds)
        )
        assert line.count("\n") == 1
        found = json.loads(line)
        assert (found["target"] or "") == readable(target)
        assert (found["error"] or "", found["bytes_out"]) == (text, number)
        assert found["duration_s"] == pytest.approx(seconds, abs=1e-6)

    @pytest.mark.parametrize("character", ["x", '"', "\x00", "\xe9", "\U0001f600"])
    def test_line_of_the_longest_request_is_within_what_a_pipe_takes_whole(self, character):
        """Several workers share the pipe: a longer line may be torn by another's."""
        long = character * 65_536
        logged = record(
            target=long.encode(),
            failure=failed("r" * 30).with_detail(long),
            method="M" * 65_536,
            rule="r" * 64,
            policy="p" * 64,
        )
        logged.request = asked(*[long.encode()] * 3)
        logged.host = long.encode()
        logged.client = "ffff:" * 7 + "ffff"
        line = json_line("2026-11-23T12:00:00.250Z", logged)
        assert len(line) <= select.PIPE_BUF
        assert len(access_log.text_line("2026-11-23T12:00:00.250Z", logged)) <= select.PIPE_BUF
        found = json.loads(line)
        kept = re.fullmatch(rf"({character}+)\.\.\.\[(\d+) more\]", found["target"])
        assert kept is not None
        assert len(kept[1]) + int(kept[2]) == 65_536

    def test_time_is_that_of_each_record_in_milliseconds(self, path):
        records = [record(ended_s=NOON_S + later) for later in (0, 0.0009, 0.7, 1, 59.999, -1)]
        assert [json.loads(line)["ts"][17:] for line in lines("json", *records, path=path)] == [
            "00.250Z",
            "00.250Z",
            "00.950Z",
            "01.250Z",
            "00.249Z",
            "59.250Z",
        ]


class Test_Text:
    START = "2026-11-23T12:00:00.250Z 203.0.113.7 GET /a?b=c 200 12.3ms in=5 out=512"

    @pytest.mark.parametrize(
        ("logged", "line"),
        [
            (
                record(),
                START + " upstream=304 rule=ajax policy=classic changed=9",
            ),
            (
                record(
                    upstream_status=200, rule="", policy="", observed="tried", failure=failed("bad \n thing")
                ),
                START + ' observed=tried error="bad \\n thing"',
            ),
            (NOTHING, "2026-11-23T12:00:00.250Z - - - - 0.0ms in=0 out=0"),
        ],
    )
    def test_line_is_for_people(self, path, logged, line):
        assert lines("text", logged, path=path) == [line]

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_that_a_client_or_the_app_sends_breaks_a_line_or_reaches_a_terminal(self, path, text):
        first, second = lines(
            "text",
            record(target=text.encode("utf-8", "surrogatepass"), failure=failed(text)),
            record(),
            path=path,
        )
        assert first.replace("\x7f", "").isprintable()
        assert second.startswith("2026-11-23T12:00:00.250Z 203.0.113.7 GET /a?b=c ")


class Test_File:
    def test_off_opens_and_writes_nothing(self, path):
        log = AccessLog("off", path)
        log.write(record())
        log.flush()
        log.reopen()
        log.close()
        assert not path.exists()

    def test_lines_are_appended_to_what_is_there_and_the_file_is_not_for_everybody(self, path):
        path.write_text("earlier\n")
        path.chmod(0o600)
        assert lines("json", record(), path=path)[0] == "earlier"
        other = path.with_name("new.log")
        lines("json", record(), path=other)
        assert other.stat().st_mode & 0o007 == 0

    def test_lines_wait_for_a_flush_or_a_full_batch(self, path):
        log = AccessLog("json", path)
        log.write(record())
        assert path.read_bytes() == b""
        log.flush()
        wait_until(lambda: path.read_bytes().count(b"\n") == 1)
        for _ in range(1000):
            log.write(record())
        wait_until(lambda: path.stat().st_size >= 256 * 1024)
        log.close()

    def test_close_writes_what_is_pending_and_ends_it(self, path):
        log = AccessLog("json", path)
        log.write(record())
        log.close()
        assert path.read_bytes().count(b"\n") == 1
        log.write(record())
        log.close()
        assert path.read_bytes().count(b"\n") == 1

    def test_after_a_rotation_lines_go_to_the_new_file(self, path):
        log = AccessLog("json", path)
        log.write(record(target=b"/1"))
        path.rename(path.with_suffix(".1"))
        log.write(record(target=b"/2"))
        log.reopen()
        log.write(record(target=b"/3"))
        log.close()
        assert path.with_suffix(".1").read_text().count("\n") == 2
        assert json.loads(path.read_text())["target"] == "/3"
