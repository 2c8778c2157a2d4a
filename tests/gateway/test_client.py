"""A client's connection on a transport that only remembers: phases, deadlines, framing, and how it ends."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from proxy.gateway import failures
from proxy.gateway.client import ClientConnection
from proxy.gateway.clients import Clients
from proxy.gateway.connection import TURN_BYTES
from proxy.gateway.peers import endpoints
from proxy.gateway.request_reader import LINGER_S, Phase
from proxy.gateway.response_writer import NEVER
from proxy.message.rewrite import UNTOUCHED
from tests.gateway.fakes import NOW_S, FakeUpstream, Surroundings, broken, response
from tests.support.transports import FakeTransport

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
    def __init__(
        self,
        around: Surroundings | None = None,
        *,
        peername: Any = ("192.0.2.1", 1),
        sockname: Any = None,
        **settings: Any,
    ) -> None:
        self.around = around or Surroundings(**settings)
        self.clients = Clients()
        self.exchanges: list[Exchange] = []
        self.transport = FakeTransport(peername, sockname, has_socket=True)
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


class Test_Reading:
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

    @pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
    def test_content_is_passed_on_as_it_comes(self, framing):
        stage = Stage()
        stage.say(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        first, rest = (b"4\r\nab", b"cd\r\n0\r\n\r\n") if b"chunked" in framing else (b"ab", b"cd")
        assert stage.say(first) == ["request_content ab"]
        assert stage.say(rest) == ["request_content cd", "request_end"]

    def test_content_that_is_malformed_is_the_client_s_failure(self):
        stage = Stage()
        stage.say(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert stage.say(b"none\r\n") == ["fail bad_request"]

    @pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
    def test_content_of_an_exchange_that_has_ended_is_dropped(self, framing):
        """It was answered before the request was complete."""
        stage = Stage()
        stage.say(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        stage.answer()
        assert stage.say(b"4\r\nabcd\r\n0\r\n\r\n") == []

    def test_exchange_that_ends_with_a_piece_of_content_hears_no_more(self):
        stage = Stage()
        stage.say(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        stage.exchanges[0].request_content = lambda _data: stage.client.reset()
        assert stage.say(b"abcd") == []

    def test_head_beyond_the_limit_is_refused_once(self):
        stage = Stage(max_head_size_bytes=1000)
        stage.say(b"GET /a HTTP/1.1\r\nHost: " + b"a" * 1000)
        assert stage.transport.written.startswith(b"HTTP/1.1 431 ")
        assert stage.client.phase is Phase.CLOSING
        assert stage.client.take_later() == b""
        assert stage.client.give_up(failures.DRAINED) is False

    def test_head_that_comes_in_pieces(self):
        stage = Stage()
        assert stage.say(GET[:10]) == []
        assert stage.client.phase is Phase.HEAD
        assert stage.say(GET[10:]) == ["begin GET /a"]

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

    def test_64_kib_are_read_ahead_however_small_heads_must_be(self):
        stage = Stage(max_head_size_bytes=1000)
        stage.say(GET + b"x" * 65_536)
        assert not stage.transport.is_paused
        stage.say(b"x")
        assert stage.transport.is_paused

    def test_reading_goes_on_as_what_was_read_ahead_is_worked_off(self):
        stage = Stage()
        stage.say(GET * 3000)
        assert stage.transport.is_paused
        for _ in range(1000):
            stage.answer()
        assert not stage.transport.is_paused
        assert stage.around.take() == ["begin GET /a"] * 1000

    def test_next_request_waits_for_a_client_that_takes_nothing(self):
        stage = Stage()
        stage.say(GET + GET.replace(b"/a", b"/b"))
        stage.client.pause_writing()
        stage.around.take()
        stage.answer()
        assert stage.around.take() == []
        stage.client.resume_writing()
        assert stage.around.take() == ["begin GET /b"]

    def test_reading_goes_on_only_when_what_was_read_ahead_is_below_its_bound(self):
        stage = Stage()
        stage.say(GET + GET + b"GET /b HTTP/1.1\r\nHost: " + b"x" * 80_000)
        assert stage.transport.is_paused
        stage.answer()
        assert stage.around.take()[-1] == "begin GET /a"
        assert stage.transport.is_paused

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

    def test_nothing_of_a_response_waits_in_the_transport_unnoticed(self):
        """Whatever the client does not take at once is told by `pause_writing`."""
        assert Stage().transport.high_water == 0

    def test_pauses_of_an_exchange_end_with_it(self):
        """It was answered before its content was sent on."""
        stage = Stage()
        stage.say(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
        stage.client.pause_reading("connecting")
        stage.client.pause_reading("upstream")
        stage.answer()
        assert not stage.transport.is_paused
        assert stage.say(GET) == ["begin GET /a"]


class Test_Silence:
    """The table in `proxy.gateway.request_reader`."""

    def test_of_a_connection_at_rest_closes_it(self):
        stage = Stage(keepalive_timeout_s=7)
        assert (stage.client.phase, stage.patience_s) == (Phase.IDLE, 7)
        stage.client.timed_out()
        assert (stage.transport.end, stage.transport.written) == ("aborted", b"")

    def test_between_requests_has_its_time_anew(self):
        stage = Stage(keepalive_timeout_s=7)
        stage.say(GET)
        stage.client.deadline_s = 0
        stage.answer()
        assert (stage.client.phase, stage.patience_s) == (Phase.IDLE, 7)

    def test_begins_as_a_slow_client_has_taken_the_response(self):
        stage = Stage(keepalive_timeout_s=7)
        stage.say(GET)
        stage.client.pause_writing()
        stage.answer()
        stage.client.deadline_s = 0
        stage.client.resume_writing()
        assert stage.patience_s == 7

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
        assert stage.transport.end == "reset"

    def test_of_a_client_that_took_nothing_since_it_was_asked_last_has_a_moment_to_end(self):
        stage = Stage(idle_timeout_s=50)
        stage.say(GET)
        stage.transport.unsent = 100
        stage.client.timed_out()
        assert stage.patience_s == LINGER_S, "it may be slow, and nothing else"
        assert stage.around.take() == []

    def test_of_a_client_that_has_taken_all_is_the_exchange_s_again(self):
        stage = Stage(idle_timeout_s=50)
        stage.say(GET)
        stage.transport.unsent = 100
        stage.client.note_progress()
        stage.transport.unsent = 0
        stage.client.timed_out()
        assert stage.around.take() == ["timed_out"]

    def test_is_judged_once(self):
        stage = Stage()
        stage.say(GET)
        stage.client.timed_out()
        assert stage.client.deadline_s == NEVER

    @pytest.mark.parametrize(("waits_s", "end"), [(49, ""), (51, "reset")])
    def test_of_a_client_that_takes_nothing_begins_as_a_response_is_held_up(self, waits_s, end):
        stage = Stage(idle_timeout_s=50)
        stage.around.context.clock.now_s += 100
        stage.transport.unsent = 100
        stage.client.pause_writing()
        stage.around.context.clock.now_s += waits_s
        stage.client.timed_out()
        assert stage.transport.end == end

    def test_of_a_client_that_leaves_a_response_untaken_is_a_reset(self):
        stage = Stage(idle_timeout_s=50)
        stage.transport.unsent = 100
        stage.client.note_progress()
        stage.around.context.clock.now_s += 51
        stage.client.timed_out()
        assert stage.transport.end == "reset"

    def test_after_a_refusal_is_short(self):
        stage = Stage(request_head_timeout_s=50)
        stage.say(b"nonsense\r\n\r\n")
        assert (stage.client.phase, stage.patience_s) == (Phase.CLOSING, LINGER_S)
        assert stage.transport.has_half_closed
        assert stage.say(GET) == []
        stage.client.timed_out()
        assert stage.transport.end == "aborted"
        assert stage.transport.written.startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize("reason", ["connecting", "upstream", "pipelined"])
    def test_nobody_s_reason_keeps_a_refused_client_from_being_read_to_its_end(self, reason):
        stage = Stage()
        stage.client.pause_reading(reason)
        stage.say(b"nonsense\r\n\r\n")
        assert not stage.transport.is_paused

    def test_of_0_between_requests_is_none_but_the_first_has_its_time(self):
        stage = Stage(keepalive_timeout_s=0, request_head_timeout_s=9)
        assert stage.patience_s == 9
        stage.say(GET)
        assert b"\r\nConnection: close\r\n" in stage.answer()
        assert stage.transport.end == "closed"


class Test_Writing:
    @pytest.mark.parametrize(("version", "is_told"), [(b"1.1", True), (b"1.0", False)])
    def test_informational_response_is_for_who_knows_it(self, version, is_told):
        """RFC 9110 section 15.2."""
        stage = Stage()
        stage.say(GET.replace(b"1.1", version))
        stage.client.send_informational(response(b"103 Early Hints"))
        stage.around.context.outbox.flush()
        assert stage.transport.written.startswith(b"HTTP/1.1 103 ") is is_told

    def test_what_is_small_leaves_at_the_end_of_the_turn_and_before_what_is_large(self):
        stage = Stage()
        stage.client.send_bytes(b"small")
        assert stage.transport.written == b""
        stage.client.send_bytes(b"l" * 20_000)
        assert stage.transport.take() == b"small" + b"l" * 20_000
        stage.client.send_bytes(b"a")
        stage.client.send_bytes(b"b")
        stage.around.loop.run()
        assert stage.transport.take() == b"ab"

    @pytest.mark.parametrize(
        ("allocated", "queued", "unsent", "room"),
        [(0, 0, 0, 1000), (300, 200, 0, 700), (200, 300, 0, 700), (1200, 0, 0, 0), (0, 0, 1, 0)],
    )
    def test_room_is_what_the_kernel_is_sure_to_take(self, allocated, queued, unsent, room):
        stage = Stage()
        stage.transport.unsent = unsent
        meminfo = struct.pack("9I", 0, 0, allocated, 1000, 0, queued, 0, 0, 0)
        stage.transport.get_extra_info("socket").getsockopt = lambda *_: meminfo
        assert stage.client.room() == room

    def test_ample_room_is_asked_for_once_until_it_is_used_up(self):
        """To ask costs two system calls; what is written meanwhile is taken off, and more than its bytes."""
        stage = Stage()
        answers = [1_000_000, 2_000_000]
        stage.transport.get_extra_info("socket").getsockopt = lambda *_: struct.pack(
            "9I", 0, 0, 0, answers.pop(0), 0, 0, 0, 0, 0
        )
        assert stage.client.room() == 1_000_000
        stage.client.send_bytes(b"a")
        stage.around.loop.run()
        assert 990_000 < stage.client.room() < 1_000_000
        stage.client.send_bytes(b"a" * 10_000)
        stage.client.send_bytes(b"b" * 90_000)
        assert 880_000 < stage.client.room() < 900_000
        stage.client.send_bytes(b"c" * 400_000)
        assert stage.client.room() == 2_000_000

    def test_room_is_none_where_the_kernel_does_not_tell(self):
        assert Stage().client.room() == 0

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


class Test_Tunnel:
    def make(self, early: bytes = b""):
        stage = Stage()
        stage.say(GET + early)
        stage.client.pause_reading("pipelined")
        stage.tunnel = Exchange(stage.around.told, stage.client, None)
        stage.exchanges[0].client_left = stage.exchanges[0].drain = broken
        stage.client.switch_protocols(stage.tunnel)
        return stage

    def test_gets_what_came_before_it(self):
        stage = self.make(b"early")
        assert stage.around.take() == ["from_client early"]
        assert not stage.transport.is_paused

    def test_gets_all_that_comes(self):
        stage = self.make()
        assert stage.around.take() == []
        assert stage.say(b"a") == ["from_client a"]
        assert stage.client.phase is Phase.TUNNEL

    def test_gives_others_their_turn(self):
        stage = self.make()
        stage.say(bytes(TURN_BYTES))
        assert stage.transport.is_paused
        stage.around.loop.run()
        assert not stage.transport.is_paused

    @pytest.mark.parametrize("passes_on", [True, False])
    def test_decides_on_a_half_close(self, passes_on):
        stage = self.make()
        stage.tunnel.client_half_closed = lambda: passes_on
        assert stage.client.eof_received() is passes_on

    def test_is_told_of_a_drain_at_its_beginning_and_on_each_tick(self):
        stage = self.make()
        stage.client.drain()
        stage.client.drain_tunnel()
        assert stage.around.take() == ["drain", "drain"]
        assert stage.transport.end == ""

    def test_hears_that_the_client_left(self):
        stage = self.make()
        stage.client.connection_lost(None)
        assert stage.around.take() == ["client_left"]

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_hears_nothing_after_its_end(self, how):
        stage = self.make()
        getattr(stage.client, how)()
        assert stage.say(b"late") == []
        stage.client.connection_lost(None)
        assert stage.around.take() == []


class Test_Pinned:
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

    @pytest.mark.parametrize("is_tunnel", [False, True])
    def test_this_one_outlives_it_until_what_is_under_way_has_ended(self, is_tunnel):
        stage = self.make()
        if is_tunnel:
            stage.client.switch_protocols(stage.exchanges[0])
        stage.client.pinned_lost()
        assert stage.transport.end == ""

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


class Test_End:
    def test_one_connection_too_many_is_told_so_and_closed_at_once(self):
        """Issue 14.6: to linger would hold the descriptors that the limit is to save."""
        stage = Stage(max_connections=0)
        assert stage.transport.written.startswith(b"HTTP/1.1 503 ")
        assert (stage.transport.end, stage.transport.has_half_closed) == ("closed", False)
        assert stage.around.stats.proxy_errors == {"too_many_connections": 1}

    def test_client_that_left_before_it_was_accepted_has_no_name_and_is_dropped(self):
        stage = Stage(peername=None)
        assert (stage.transport.end, stage.client.phase) == ("aborted", Phase.CLOSING)
        assert stage.say(GET) == []

    def test_client_that_comes_while_others_are_drained_is_dropped(self):
        around = Surroundings()
        around.context.drain()
        stage = Stage(around)
        assert stage.transport.end == "aborted"
        assert stage.say(GET) == []

    def test_connections_are_counted_as_they_come_and_go(self):
        stage = Stage()
        stats = stage.around.stats
        assert (stats.client_connections, stats.client_connections_total, len(stage.clients)) == (1, 1, 1)
        stage.client.connection_lost(None)
        assert (stats.client_connections, stats.client_connections_total, len(stage.clients)) == (0, 1, 0)
        assert stage.say(GET) == []

    def test_drain_closes_what_rests_and_leaves_a_head_that_has_begun(self):
        stage = Stage()
        stage.say(GET[:10])
        stage.client.drain()
        assert stage.transport.end == ""
        stage = Stage()
        stage.say(GET)
        stage.client.send_head(response(b"200 OK", b"Content-Length: 0"), UNTOUCHED)
        stage.client.end()
        stage.client.drain()
        assert stage.transport.written.startswith(b"HTTP/1.1 200 OK")
        assert stage.transport.end == "closed"

    def test_drain_that_begins_within_a_response_closes_after_it(self):
        stage = Stage()
        stage.say(GET)
        stage.client.send_head(response(b"200 OK", b"Content-Length: 0"), UNTOUCHED)
        stage.around.context.drain()
        stage.client.end()
        assert stage.transport.end == "closed"

    def test_request_that_comes_from_our_own_connection_to_the_app_is_a_loop(self):
        """The peer's address is the local one of a connection to the app."""
        ends = ("192.0.2.1", 1), ("192.0.2.9", 80)
        stage = Stage(peername=ends[0], sockname=ends[1])
        stage.around.context.own_endpoints.add(endpoints(*ends))
        stage.say(GET)
        assert stage.transport.written.startswith(b"HTTP/1.1 508 ")

    def test_what_was_pipelined_is_dropped_by_a_close_and_the_client_told_after_the_response(self):
        stage = Stage()
        stage.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + GET)
        assert b"200 OK" in stage.answer()
        assert stage.transport.has_half_closed, "a plain close would reset the response"
        assert stage.around.take() == []

    def test_transport_that_cannot_half_close_is_closed(self):
        """TLS knows no half-close."""
        stage = Stage()
        stage.transport.may_half_close = False
        stage.say(b"nonsense\r\n\r\n")
        assert (stage.transport.has_half_closed, stage.transport.end) == (False, "closed")

    def test_client_that_left_meanwhile_is_not_half_closed(self):
        stage = Stage()
        stage.say(GET + GET)
        stage.around.context.drain()
        stage.client.send_head(response(b"200 OK", b"Content-Length: 0"), UNTOUCHED)
        stage.around.context.outbox.flush()
        stage.transport.abort()
        stage.client.end()
        assert not stage.transport.has_half_closed

    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_what_was_sent_leaves_before_the_end(self, how):
        stage = Stage()
        stage.say(GET)
        stage.client.send_head(response(b"200 OK", b"Content-Length: 2"), UNTOUCHED)
        getattr(stage.client, how)()
        assert stage.transport.written.startswith(b"HTTP/1.1 200 OK")
        assert stage.transport.end == {"reset": "reset", "close": "closed"}[how]
        stage.client.connection_lost(None)
        assert stage.around.take() == [], "the exchange has ended before"

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


class Test_Own_mistake:
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

    @pytest.mark.parametrize("begun", [b"", GET[:10]])
    def test_before_there_is_an_exchange_is_answered(self, monkeypatch, caplog, begun):
        stage = Stage()
        stage.say(begun)
        monkeypatch.setattr(stage.around.context, "requests", None)
        stage.say(GET[len(begun) :])
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

    def test_where_there_is_nobody_to_answer_ends_the_connection(self):
        stage = Stage()
        stage.say(b"nonsense\r\n\r\n")
        stage.transport.get_write_buffer_size = broken
        stage.client.timed_out()
        assert stage.transport.end == "aborted"

    def test_in_the_turn_that_goes_on_with_a_large_read(self):
        stage = Stage()
        stage.say(GET)
        stage.client.end_turn(b"x")
        stage.transport.resume_reading = broken
        stage.around.loop.run()
        assert stage.around.take() == ["fail internal_error"]
