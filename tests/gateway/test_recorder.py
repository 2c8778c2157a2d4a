"""What becomes of a record: it waits for the log without the heads that it was made of."""

from __future__ import annotations

import gc

import pytest

from proxy.gateway.access_log import AccessLog
from proxy.gateway.record import Record
from proxy.gateway.recorder import Recorder
from proxy.message.request import RequestHead, RequestTable
from proxy.stats import Stats
from tests.gateway.fakes import broken


def test_record_that_waits_for_the_log_holds_no_head(tmp_path):
    recorder = Recorder(Stats(), AccessLog("json", tmp_path / "log"))
    before = sum(isinstance(each, RequestHead) for each in gc.get_objects())
    for _ in range(10):
        head = RequestTable().read(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: MSIE\r\n\r\n")
        recorder.finish(Record(request=head), None)
    del head
    assert sum(isinstance(each, RequestHead) for each in gc.get_objects()) <= before
    recorder.access_log.close()
    assert (tmp_path / "log").read_text().count('"user_agent":"MSIE"') == 10


def test_record_that_cannot_be_rendered_costs_its_batch_and_no_exchange(tmp_path):
    log = AccessLog("json", tmp_path / "log")
    recorder = Recorder(Stats(), log)
    for _ in range(100):
        recorder.finish(Record(client="\ud800"), None)
    with pytest.raises(UnicodeEncodeError):
        recorder.flush()
    recorder.finish(Record(client="192.0.2.1"), None)
    recorder.flush()
    log.close()
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_log_that_fails_is_a_mistake_that_is_counted_and_ends_no_exchange(monkeypatch, tmp_path):
    log = AccessLog("json", tmp_path / "log")
    recorder = Recorder(Stats(), log)
    monkeypatch.setattr(log, "_render", broken)
    for _ in range(64):
        recorder.finish(Record(), None)
    assert recorder.stats.proxy_errors == {"internal_error": 1}
    log.close()
