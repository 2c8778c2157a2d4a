"""A client's connection on a transport that only remembers: phases, deadlines, framing, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.gateway import failures
from proxy.gateway.client import ClientConnection
from proxy.gateway.clients import Clients
from proxy.gateway.request_reader import Phase
from proxy.message.rewrite import UNTOUCHED
from tests.gateway.fakes import NOW_S, FakeTransport, FakeUpstream, Surroundings, broken, response

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"


class Exchange:
    """Stands for the exchange of a request; writes down what it hears."""

    def __init__(self, told: list[str], client: Any, head: Any) -> None:
        self._told = told
        self.client = client
        self.head = head

    def __getattr__(self, name: str) -> Any:
        def hear(*words: Any) -> None:
            said = [
                word.decode() if isinstance(word, bytes) else getattr(word, "reason", str(word))
                for word in words
            ]
            self._told.append(" ".join([name, *said]))

        return hear

    def begin(self) -> None:
        self._told.append(f"begin {self.head.method} {self.head.target.decode()}")


class Stage:
    def __init__(self, around: Surroundings | None = None, **settings: Any) -> None:
        self.around = around or Surroundings(**settings)
        self.clients = Clients()
        self.exchanges: list[Exchange] = []
        self.transport = FakeTransport()
        self.client = ClientConnection(self.around.context, self.clients, self._begin)  # type: ignore[arg-type]
        self.client.connection_made(self.transport)  # type: ignore[arg-type]

    def _begin(self, client: Any, head: Any) -> Exchange:
        self.exchanges.append(Exchange(self.around.told, client, head))
        return self.exchanges[-1]

    def say(self, data: bytes) -> list[str]:
        self.client.data_received(data)
        return self.around.take()

    def answer(self, *fields: bytes, content: bytes = b"ok") -> bytes:
        """Have the exchange answer; return what is written."""
        self.client.send_head(response(b"200 OK", *fields or (b"Content-Length: 2",)), UNTOUCHED)
        self.client.send_content(content)
        self.client.end()
        self.around.loop.run()
        self.around.context.outbox.flush()
        return self.transport.take()

    @property
    def patience_s(self) -> float:
        return self.client.deadline_s - NOW_S


class Test_Reading:  # noqa: N801 - read as a sentence
    def test_head_begins_an_exchange(self):
        stage = Stage()
        assert stage.say(GET) == ["begin GET /a"]
        assert stage.client.phase is Phase.RESPONSE

    def test_content_of_either_framing_is_passed_on_and_its_end_told(self):
        for framing, content in (
            (b"Content-Length: 4", b"abcd"),
            (b"Transfer-Encoding: chunked", b"4\r\nabcd\r\n0\r\n\r\n"),
        ):
            stage = Stage()
            told = stage.say(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + content + GET)
            assert told == ["begin POST /a", "request_content abcd", "request_end"]
            assert stage.client.phase is Phase.RESPONSE

    def test_next_request_waits_for_its_turn(self):
        stage = Stage()
        assert stage.say(GET + GET.replace(b"/a", b"/b")) == ["begin GET /a"]
        assert b"200 OK" in stage.answer()
        assert stage.around.take() == ["begin GET /b"]

    def test_what_is_read_ahead_has_a_bound(self):
        stage = Stage()
        stage.say(GET + b"x" * 65_000)
        assert not stage.transport.is_paused
        stage.say(b"x" * 1000)
        assert stage.transport.is_paused
        stage.answer()
        assert not stage.transport.is_paused

    def test_reading_goes_on_when_every_reason_against_it_is_gone(self):
        stage = Stage()
        stage.client.pause_reading("upstream")
        stage.client.pause_reading("connecting")
        stage.client.resume_reading("connecting")
        assert stage.transport.is_paused
        stage.client.resume_reading("upstream")
        assert not stage.transport.is_paused

    def test_client_that_takes_nothing_is_not_read(self):
        stage = Stage()
        stage.client.pause_writing()
        assert stage.say(GET) == []
        stage.client.resume_writing()
        assert stage.around.take() == ["begin GET /a"]


class Test_Silence:  # noqa: N801
    """The table in `proxy.gateway.request_reader`."""

    def test_of_a_connection_at_rest_closes_it(self):
        stage = Stage(keepalive_timeout_s=7)
        assert (stage.client.phase, stage.patience_s) == (Phase.IDLE, 7)
        stage.client.timed_out()
        assert (stage.transport.end, stage.transport.written) == ("aborted", b"")

    def test_within_a_head_is_answered(self):
        stage = Stage(request_head_timeout_s=5)
        stage.say(b"\r\n")
        assert stage.client.phase is Phase.IDLE
        stage.say(b"GET /slow")
        assert (stage.client.phase, stage.patience_s) == (Phase.HEAD, 5)
        stage.around.context.clock.now_s += 3
        stage.say(b" HTTP")
        assert stage.patience_s == 5, "no byte puts the end of a head off"
        stage.client.timed_out()
        assert stage.transport.take().startswith(b"HTTP/1.1 408 ")
        record = stage.around.record
        assert (record.method, record.target, record.policy) == ("GET", b"/slow", "strict")

    @pytest.mark.parametrize("sent", [GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"])
    def test_within_an_exchange_is_the_exchange_s_to_judge(self, sent):
        stage = Stage()
        stage.say(sent)
        stage.client.timed_out()
        assert stage.around.take() == ["timed_out"]
        assert not stage.transport.end

    def test_of_a_client_that_takes_what_it_is_sent_is_none(self):
        stage = Stage(idle_timeout_s=50)
        stage.transport.unsent = 100
        stage.client.pause_writing()
        for unsent in (90, 80):
            stage.around.context.clock.now_s += 49
            stage.transport.unsent = unsent
            stage.client.timed_out()
            assert not stage.transport.end
        stage.around.context.clock.now_s += 51
        stage.client.timed_out()
        assert stage.transport.end == "aborted"

    def test_of_0_between_requests_is_none_but_the_first_has_its_time(self):
        stage = Stage(keepalive_timeout_s=0, request_head_timeout_s=9)
        assert stage.patience_s == 9
        stage.say(GET)
        assert b"\r\nConnection: close\r\n" in stage.answer()
        assert stage.transport.end == "closed"


class Test_Writing:  # noqa: N801
    def test_content_without_a_length_is_chunked(self):
        stage = Stage()
        stage.say(GET)
        assert stage.answer(b"X: a").endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")

    def test_connection_ends_after_a_response_that_came_before_the_request_s_end(self):
        stage = Stage()
        stage.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        assert b"\r\nConnection: close\r\n" in stage.answer()
        assert stage.transport.has_half_closed, "it still sends: a plain close would reset the response"

    @pytest.mark.parametrize(
        ("failure", "stays"),
        [(failures.UPSTREAM_TIMEOUT, True), (failures.REQUEST_TIMEOUT, False), (failures.INTERNAL, False)],
    )
    def test_connection_outlives_an_answer_of_the_gateway_s_only_where_the_app_failed(self, failure, stays):
        stage = Stage()
        stage.say(GET)
        head, content = stage.client.answer(failure, ())
        phrase = {504: "Gateway Timeout", 408: "Request Timeout", 502: "Bad Gateway"}[failure.status]
        assert content == f"{failure.status} {phrase}: {failure.text}\n".encode()
        stage.around.context.outbox.flush()
        assert stage.transport.take() == head + content
        assert (b"Connection: close" in head) is not stays
        assert (stage.transport.end == "") is stays

    def test_drain_that_begins_within_an_exchange_closes_after_it(self):
        stage = Stage()
        stage.say(GET)
        stage.around.context.drain()
        assert b"\r\nConnection: close\r\n" in stage.answer()
        assert stage.transport.end == "closed"


class Test_Pinned:  # noqa: N801
    def make(self):
        stage = Stage()
        stage.upstream = FakeUpstream(stage.around.told)
        stage.upstream.belong_to = lambda owner: stage.around.told.append(
            f"belongs to {owner is stage.client}"
        )
        stage.say(GET)
        stage.client.pin(stage.upstream)
        assert stage.around.take() == ["belongs to True"]
        return stage

    def test_connection_dies_with_this_one(self):
        stage = self.make()
        stage.answer()
        stage.client.connection_lost(None)
        assert stage.around.take() == ["upstream: abort"]

    def test_this_one_dies_with_it_at_rest(self):
        stage = self.make()
        stage.answer()
        assert stage.transport.end == ""
        stage.client.pinned_lost()
        assert stage.transport.end == "closed"

    def test_this_one_says_that_it_will_close_where_the_other_will(self):
        stage = self.make()
        stage.upstream.may_rest = False
        assert b"\r\nConnection: close\r\n" in stage.answer()
        assert stage.transport.end == "closed"

    def test_this_one_closes_where_the_other_was_lost_after_the_head(self):
        stage = self.make()
        stage.client.send_head(response(b"200 OK", b"Content-Length: 2"), UNTOUCHED)
        stage.upstream.may_rest = False
        stage.client.end()
        assert stage.transport.end == "closed"


class Test_End:  # noqa: N801
    def test_one_connection_too_many_is_told_so_and_closed_at_once(self):
        """Issue 14.6: to linger would hold the descriptors that the limit is to save."""
        stage = Stage(max_connections=0)
        assert stage.transport.written.startswith(b"HTTP/1.1 503 ")
        assert (stage.transport.end, stage.transport.has_half_closed) == ("closed", False)
        assert stage.around.stats.proxy_errors == {"too_many_connections": 1}

    def test_half_close_is_taken_for_the_client_s_leaving(self):
        stage = Stage()
        stage.say(GET)
        assert not stage.client.eof_received()

    def test_exchange_hears_that_the_client_left_and_its_place_is_free(self):
        stage = Stage()
        stage.say(GET)
        stage.client.connection_lost(None)
        assert stage.around.take() == ["client_left"]
        assert len(stage.clients) == 0
        assert stage.clients.all_left.is_set()

    def test_giving_up_resets_what_is_under_way_and_cuts_off_the_rest(self):
        stage = Stage()
        assert stage.client.give_up(failures.DRAINED) is False
        assert stage.transport.end == "aborted"
        stage = Stage()
        stage.say(GET)
        assert stage.client.give_up(failures.DRAINED) is True
        assert stage.around.take() == ["reset drained"]

    def test_bytes_after_the_last_response_are_dropped(self):
        stage = Stage()
        stage.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        stage.answer()
        assert stage.say(GET) == []


class Test_Own_mistake:  # noqa: N801
    @pytest.mark.parametrize("callback", ["pause_writing", "resume_writing", "timed_out"])
    def test_in_any_callback_fails_the_exchange(self, callback, caplog):
        stage = Stage()
        stage.say(GET)

        class Broken:
            def fail(self, failure):
                stage.around.told.append(f"fail {failure.reason}")

        stage.client.exchange = Broken()
        getattr(stage.client, callback)()
        assert stage.around.take() == ["fail internal_error"]
        assert caplog.records[0].exc_info

    def test_before_there_is_an_exchange_is_answered(self, monkeypatch, caplog):
        stage = Stage()
        monkeypatch.setattr(stage.around.context, "requests", None)
        stage.say(GET)
        assert stage.transport.take().startswith(b"HTTP/1.1 502 ")
        assert stage.around.stats.proxy_errors == {"internal_error": 1}

    def test_exchange_that_cannot_even_be_failed_leaves_no_client_waiting(self, caplog):
        stage = Stage()
        stage.say(GET)
        stage.exchanges[0].pause_response = stage.exchanges[0].fail = broken
        stage.client.pause_writing()
        assert stage.transport.end == "aborted"
        assert len(caplog.records) == 2

    def test_of_one_connection_keeps_none_behind_it_from_writing(self):
        """What was sent would wait until the time-out, as only the first of a turn asks for its end."""
        failing = Stage()
        behind = Stage(failing.around)
        for stage in (failing, behind):
            stage.say(GET)
            stage.client.send_head(response(b"200 OK", b"Content-Length: 2"), UNTOUCHED)
        failing.transport.write = failing.exchanges[0].fail = broken
        failing.around.context.outbox.flush()
        assert failing.transport.end == "aborted"
        assert behind.transport.written.startswith(b"HTTP/1.1 200 OK")

    @pytest.mark.parametrize("how", ["drain", "give_up"])
    def test_as_the_worker_ends_is_told_to_nobody_who_waits_for_the_others(self, how):
        stage = Stage()
        stage.say(GET)
        stage.client.switch_protocols(stage.exchanges[0])
        stage.exchanges[0].drain = stage.exchanges[0].reset = broken
        stage.around.take()
        assert getattr(stage.client, how)(*[failures.DRAINED] * (how == "give_up")) is None
        assert stage.around.take() == ["fail internal_error"]

    def test_in_the_turn_that_goes_on_with_a_large_read(self):
        stage = Stage()
        stage.say(GET)
        stage.client.end_turn(b"x")
        stage.transport.resume_reading = broken
        stage.around.loop.run()
        assert stage.around.take() == ["fail internal_error"]
