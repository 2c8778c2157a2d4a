"""The contract of the application log: one line an event, JSON for machines or text for people."""

from __future__ import annotations

import json
import logging
import re
import select
import subprocess
import sys

import pytest

SCRIPT = """
import logging
from proxy.service import logs
logs.configure({form!r}, {level!r})
log = logging.getLogger("proxy.some")
log.debug("too quiet")
log.info("one %s", "\\u00e4 \\"quoted\\"")
log.warning("two\\nlines")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def lines(form: str, level: str = "info") -> list[str]:
    """What a process of its own writes: `configure` is for the whole process."""
    script = SCRIPT.format(form=form, level=level)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert not done.stdout
    return done.stderr.splitlines()


def test_json_is_one_object_a_line_with_the_traceback_inside():
    entries = [json.loads(line) for line in lines("json")]
    assert [entry["level"] for entry in entries] == ["info", "warning", "error"]
    assert entries[0]["message"] == 'one \u00e4 "quoted"'
    assert entries[1]["message"] == "two\nlines"
    assert entries[0]["logger"] == "proxy.some"
    assert all(re.fullmatch(TIMESTAMP, entry["ts"]) for entry in entries)
    assert "ZeroDivisionError" in entries[2]["exception"]
    assert ["exception" in entry for entry in entries] == [False, False, True]


def test_text_is_for_people():
    found = lines("text")
    assert re.fullmatch(rf'{TIMESTAMP} info one \u00e4 "quoted"', found[0])
    assert any(re.fullmatch(rf"{TIMESTAMP} error failed", line) for line in found)
    assert found[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("warning", 2), ("error", 1)])
def test_level_is_obeyed(level, count):
    assert len(lines("json", level)) == count


def test_libraries_do_not_log_requests():
    """aiohttp would log each probe of the admin listener."""
    script = (
        "import logging; from proxy.service import logs; logs.configure('json', 'debug');"
        "print(logging.getLogger('aiohttp.access').getEffectiveLevel())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == logging.WARNING


def test_line_of_a_long_message_or_traceback_is_within_what_a_pipe_takes_whole():
    """Several workers share standard error: a longer line may be torn by another's."""
    script = """
import logging
from proxy.service import logs
logs.configure("json", "info")
def deeper(depth):
    deeper(depth - 1) if depth else 1 / 0
logging.info("\u00e4" * 100_000)
try:
    exec("\\n".join(f"def f{n}(): {f'f{n - 1}()' if n else '1 / 0'}" for n in range(200)) + "\\nf199()")
except ZeroDivisionError:
    logging.exception("\u00e4" * 100_000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = done.stderr.splitlines()
    assert [len(line) < select.PIPE_BUF for line in found] == [True, True]
    assert json.loads(found[1])["exception"].endswith("ZeroDivisionError: division by zero")
