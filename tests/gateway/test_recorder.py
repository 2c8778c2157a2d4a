"""What becomes of a record: it waits for the log without the heads that it was made of."""

from __future__ import annotations

import gc

from proxy.gateway.access_log import AccessLog
from proxy.gateway.record import Record
from proxy.gateway.recorder import Recorder
from proxy.message.request import RequestHead, RequestTable
from proxy.stats import Stats


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
