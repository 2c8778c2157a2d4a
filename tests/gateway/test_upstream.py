"""A connection to the app on a transport that only remembers: phases, framing, and when it may rest."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.gateway import upstream
from proxy.gateway.connection import TURN_BYTES
from proxy.gateway.read_buffer import SMALL_BYTES
from proxy.gateway.upstream import Phase, UpstreamConnection
from tests.gateway.fakes import Surroundings, broken, request
from tests.support.transports import FakeTransport

GET = request()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Listener:
    """Stands for the exchange, and for the tunnel after it; writes down what it hears."""

    def __init__(self, told: list[str]) -> None:
        self._told = told
        self.on_head: Any = lambda _response: None

    def __getattr__(self, name: str) -> Any:
        def hear(*words: Any, **named: Any) -> None:
            said = [
                bytes(word).decode() if isinstance(word, bytes | memoryview) else str(word) for word in words
            ]
            self._told.append(" ".join([name, *said, *[f"{key}={value}" for key, value in named.items()]]))

        return hear

    def touch(self) -> None: ...

    def informational(self, response: Any) -> None:
        self._told.append(f"informational {response.status}")

    def response_head(self, response: Any) -> None:
        self._told.append(f"head {response.status}")
        self.on_head(response)

    def fail(self, failure: Any) -> None:
        self._told.append(f"fail {failure.reason} {failure.detail}".strip())

    def upstream_half_closed(self) -> bool:
        self._told.append("half-closed")
        return True


class Pool:
    def __init__(self) -> None:
        self.resting: list[UpstreamConnection] = []
        self.closed: list[UpstreamConnection] = []

    def put(self, connection: UpstreamConnection, *, after_content: bool) -> None:
        self.resting.append(connection)

    def was_closed(self, connection: UpstreamConnection) -> None:
        self.closed.append(connection)
        if connection in self.resting:
            self.resting.remove(connection)


class Stage:
    """A connection that was asked something, whose request has left."""

    def __init__(self, head=GET, *, leaves: bool = True) -> None:
        self.around = Surroundings()
        self.pool = Pool()
        self.connection = UpstreamConnection(self.around.context, self.pool)
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self.listener = Listener(self.around.told)
        self.ask(head, leaves=leaves)

    def ask(self, head, *, leaves: bool = True) -> None:
        self.connection.send_head(self.listener, head, strips=False)  # type: ignore[arg-type]
        if leaves:
            self.around.context.outbox.flush()

    def hear(self, data: bytes, piece: int = 0) -> list[str]:
        for start in range(0, len(data), piece or len(data)):
            self.connection.data_received(data[start : start + (piece or len(data))])
        return self.around.take()

    @property
    def rests(self) -> bool:
        assert (self.connection in self.pool.resting) is (self.connection.phase is Phase.RESTING)
        return self.connection in self.pool.resting


HEADS_WITH_CONTENT = {
    "a head": (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n", ["head 200"]),
    "a head that began before": (b"K\r\nContent-Length: 9000000\r\n\r\n", ["head 200"]),
    "two heads": (
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n",
        ["informational 103", "head 200"],
    ),
    "a long head": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\nA: %b\r\n\r\n" % (b"x" * 5000),
        ["head 200"],
    ),
}


class Test_Reading:
    def test_head_and_content(self):
        stage = Stage()
        assert stage.hear(OK) == ["head 200", "response_content ok", "response_end"]
        assert stage.rests

    def test_any_pieces_come_to_the_same(self):
        stage = Stage()
        told = stage.hear(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + OK, piece=1)
        assert told == [
            "informational 103",
            "head 200",
            "response_content o",
            "response_content k",
            "response_end",
        ]
        assert stage.rests

    def test_chunks_are_taken_off(self):
        stage = Stage()
        told = stage.hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        assert told == ["head 200", "response_content ok", "response_end"]
        assert stage.rests

    def test_content_without_a_length_ends_with_the_connection_s_own_word(self):
        stage = Stage()
        assert stage.hear(b"HTTP/1.1 200 OK\r\n\r\nok") == ["head 200", "response_content ok"]
        stage.connection.eof_received()
        stage.connection.connection_lost(None)
        assert stage.around.take() == ["response_end"]

    @pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
    def test_what_ends_before_its_end_is_truncated(self, framing):
        stage = Stage()
        content = b"2\r\nok\r\n" if b"chunked" in framing else b"ok"
        stage.hear(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + content)
        stage.connection.eof_received()
        stage.connection.connection_lost(None)
        assert stage.around.take() == ["fail upstream_truncated"]

    def test_reset_is_no_end_of_content(self):
        stage = Stage()
        stage.hear(b"HTTP/1.1 200 OK\r\n\r\nok")
        # TLS: nothing more can be read.
        stage.transport.get_extra_info = lambda _name, _default=None: object()
        stage.connection.connection_lost(ConnectionResetError("reset"))
        assert stage.around.take() == ["fail upstream_truncated reset"]

    def test_what_is_no_response_fails(self):
        assert Stage().hear(b"220 ready\r\n") == ["fail upstream_malformed not HTTP/1.x"]
        two = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        (told,) = Stage().hear(two)
        assert told.startswith("fail upstream_malformed ")

    def test_answer_to_a_request_that_has_not_left_is_none(self):
        """It was said before, to somebody else."""
        stage = Stage(leaves=False)
        assert stage.hear(OK) == ["upstream_lost may_retry=False detail=it spoke unasked"]
        assert stage.transport.end == "aborted"

    def test_response_right_behind_an_informational_one_is_read(self):
        told = Stage().hear(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        assert told == ["informational 103", "head 200", "response_content ok", "response_end"]

    def test_exchange_that_ends_within_an_informational_response_hears_no_more(self):
        stage = Stage()
        stage.listener.informational = lambda _response: stage.connection.abort()
        assert stage.hear(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK) == []

    @pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b""])
    def test_head_alone_has_no_content(self, framing):
        assert Stage().hear(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n") == ["head 200"]

    def test_chunks_that_are_none_are_truncated_content(self):
        told = Stage().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n")
        assert told[0] == "head 200"
        assert told[1].startswith("fail upstream_truncated ")

    def test_head_beyond_the_limit_is_told(self):
        stage = Stage()
        limit = stage.around.context.settings.max_head_size_bytes
        assert stage.hear(b"HTTP/1.1 200 OK\r\nA: " + b"x" * (limit - 22)) == []
        assert stage.hear(b"xxxxxxx") == ["fail upstream_head_too_large"]

    @pytest.mark.parametrize("is_in_use", [True, False])
    @pytest.mark.parametrize("framing", ["fixed", "chunked", "tunnel"])
    def test_large_read_is_passed_on_and_its_buffer_left_alone_while_it_is_in_use(self, framing, is_in_use):
        if framing == "tunnel":
            stage = Test_Tunnel().make()
        else:
            stage = Stage()
            field = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: 9000000"
            stage.hear(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n")
        stage.listener.has_unsent_content = lambda: is_in_use
        inbox = stage.around.context.inbox
        buffer, size = inbox.buffer, SMALL_BYTES + 1
        data = b"%x\r\n" % size if framing == "chunked" else b""
        data += b"x" * (size - len(data))
        buffer[:size] = data
        stage.connection.buffer_updated(size)
        (told,) = stage.around.take()
        name = {"fixed": "large_content", "chunked": "response_content", "tunnel": "from_upstream"}[framing]
        assert told == f"{name} {data.decode().rpartition(chr(10))[2]}"
        assert (inbox.buffer is buffer) is (framing == "chunked" or not is_in_use)

    @pytest.mark.parametrize("kind", HEADS_WITH_CONTENT)
    def test_much_content_is_not_copied_when_it_comes_with_its_head(self, kind):
        stage = Stage()
        head, told = HEADS_WITH_CONTENT[kind]
        if kind == "a head that began before":
            stage.hear(b"HTTP/1.1 200 O")
        stage.listener.has_unsent_content = lambda: False
        passed = []
        stage.listener.large_content = lambda data: passed.append((type(data), bytes(data)))
        size = 2 * SMALL_BYTES
        content = b"x" * (size - len(head))
        stage.around.context.inbox.buffer[:size] = head + content
        stage.connection.buffer_updated(size)
        assert stage.around.take() == told
        assert passed == [(memoryview if kind == "a head" else bytes, content)]

    @pytest.mark.parametrize(
        ("beginning", "told"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["head 200", "response_end"]),
            (b"HTTP/1.1 304 Not Modified\r\n\r\n", ["head 304", "response_end"]),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                ["head 200", "large_content xxx", "response_end"],
            ),
        ],
    )
    def test_connection_ends_when_much_comes_behind_the_end(self, beginning, told):
        stage = Stage()
        size = 2 * SMALL_BYTES
        stage.listener.has_unsent_content = lambda: False
        stage.around.context.inbox.buffer[:size] = beginning.ljust(size, b"x")
        stage.connection.buffer_updated(size)
        assert stage.around.take() == told
        assert stage.transport.end == "aborted"
        assert not stage.rests

    def test_bad_head_before_much_content_fails_once(self):
        stage = Stage()
        size = 2 * SMALL_BYTES
        stage.listener.fail = lambda failure: (
            stage.around.told.append(failure.reason),
            stage.connection.abort(),
        )
        stage.around.context.inbox.buffer[:size] = b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n".ljust(size, b"x")
        stage.connection.buffer_updated(size)
        assert stage.around.take() == ["upstream_malformed"]

    @pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 0", b"HTTP/1.1 304 Not Modified"])
    @pytest.mark.parametrize("is_pinned", [False, True])
    def test_large_read_that_goes_on_after_an_answer_without_content_answers_no_other_request(
        self, head, is_pinned
    ):
        """It rested for a moment, and a request that is asked once more after a 304 could take it and what came on it."""
        stage = Stage()
        if is_pinned:
            stage.connection.belong_to(stage.listener)
        phases = []
        stage.listener.response_end = lambda: phases.append(stage.connection.phase)
        size = SMALL_BYTES + 1
        stage.around.context.inbox.buffer[:size] = (head + b"\r\n\r\n" + OK).ljust(size, b"x")
        stage.connection.buffer_updated(size)
        assert phases == [Phase.CLOSED]
        assert not stage.pool.resting

    def test_after_a_large_answer_the_next_is_read_as_large_and_after_small_ones_no_more(self):
        stage = Stage()
        inbox = stage.around.context.inbox
        size = len(inbox.buffer)
        stage.listener.room = lambda: 10 * size
        stage.listener.has_unsent_content = lambda: False
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
        asked = []
        for length in (66_000, 66_000, 2, 2):
            buffer = stage.connection.get_buffer(1)
            asked.append(len(buffer))
            data = (answer % length).ljust(len(answer % length) + length, b"x")
            while data:
                buffer = stage.connection.get_buffer(1)
                part, data = data[: len(buffer)], data[len(buffer) :]
                buffer[: len(part)] = part
                stage.connection.buffer_updated(len(part))
            stage.ask(GET)
        assert asked == [SMALL_BYTES, size, size, SMALL_BYTES]

    def test_exchange_that_ends_as_its_content_is_passed_on_is_not_told_of_the_end(self):
        stage = Stage()
        stage.listener.response_content = lambda _data: stage.connection.abort()
        assert stage.hear(OK) == ["head 200"]

    def test_connection_that_is_reset_after_its_half_close_has_not_ended_well(self):
        stage = Stage()
        stage.hear(b"HTTP/1.1 200 OK\r\n\r\nok")
        stage.connection._has_ended = True
        # TLS: nothing more can be read.
        stage.transport.get_extra_info = lambda _name, _default=None: object()
        stage.connection.connection_lost(ConnectionResetError("reset"))
        assert stage.around.take() == ["fail upstream_truncated reset"]

    @pytest.mark.interpreted
    def test_last_words_are_read_as_long_as_somebody_listens(self, monkeypatch):
        listens = []

        def read(_transport: object, receive: Any) -> bool:
            listens.extend(receive(piece) for piece in (OK[:-1], b"k", b""))
            return True

        monkeypatch.setattr(upstream, "read_what_tls_holds", read)
        stage = Stage()
        stage.connection.connection_lost(None)
        assert listens == [True, False, False]
        assert stage.around.take()[-1] == "response_end"

    def test_exchange_that_ends_within_the_head_hears_no_content(self):
        stage = Stage()
        stage.listener.on_head = lambda _response: stage.connection.abort()
        assert stage.hear(OK) == ["head 200"]


class Test_Writing:
    def test_content_of_a_known_length_goes_as_it_is_and_other_content_in_chunks(self):
        for framing, expected in (
            (b"Content-Length: 2", b"hi"),
            (b"Transfer-Encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n"),
        ):
            stage = Stage(request(b"POST /a HTTP/1.1", framing))
            assert stage.connection.phase is Phase.SENDING
            stage.transport.take()
            stage.connection.send_content(b"hi")
            stage.connection.end()
            stage.around.context.outbox.flush()
            assert (stage.transport.take(), stage.connection.phase) == (expected, Phase.AWAITING)

    def test_says_how_many_conditions_it_leaves_out(self):
        head = request(b"GET /a HTTP/1.1", b'If-None-Match: "a"', b"If-Modified-Since: now")
        stage = Stage()
        assert stage.connection.send_head(stage.listener, head, strips=True) == 2
        assert stage.connection.send_head(stage.listener, head, strips=False) == 0

    def test_request_can_be_sent_a_second_time_byte_for_byte(self):
        head = request(b"GET /a HTTP/1.1", b'If-None-Match: "a"', b"If-Range: x", b"Range: bytes=0-1")
        first, second = Stage(head).transport.take(), Stage(head).transport.take()
        assert first == second
        assert first.startswith(b"GET /a HTTP/1.1\r\n")

    @pytest.mark.parametrize("then", [b"", b"l" * 20_000])
    def test_nothing_is_written_to_a_transport_that_is_closing(self, then):
        """At the end of the turn, or at once: uvloop logs a warning for each write after five."""
        stage = Stage(request(b"POST /a HTTP/1.1", b"Content-Length: 9"))
        stage.transport.close()
        stage.connection.send_content(b"small")
        if then:
            stage.connection.send_content(then)
        stage.connection.push()
        assert b"small" not in stage.transport.take()


def reply(*fields: bytes, content: bytes = b"ok") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"", content])


class Test_Rest:
    """Issue 14.1 and 14.3: no byte of an answer may come when somebody else listens."""

    @pytest.mark.parametrize(
        ("head", "data"),
        [
            (request(b"HEAD /a HTTP/1.1"), reply(b"Content-Length: 2", content=b"")),
            (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
            (GET, b"HTTP/1.1 304 Not Modified\r\n\r\n"),
            (GET, reply(b"Content-Length: 0", content=b"")),
            (GET, reply(b"Content-Length: 2", b"Connection: close")),
            (GET, OK.replace(b"1.1", b"1.0")),
            (GET, OK + b"x"),
            (GET, reply(b"Transfer-Encoding: chunked", content=b"0\r\n\r\nx")),
            (request(b"GET /a HTTP/1.1", b"Expect: 100-continue"), OK),
        ],
    )
    def test_is_not_for_a_connection_on_which_more_may_come(self, head, data):
        stage = Stage(head)
        assert stage.hear(data)[-1] == "response_end"
        assert not stage.rests
        assert stage.transport.end == "aborted"

    def test_is_not_for_one_that_got_chunks(self):
        """Nobody can tell whether the app has read them all."""
        stage = Stage(request(b"POST /a HTTP/1.1", b"Transfer-Encoding: chunked"))
        stage.connection.end()
        stage.around.context.outbox.flush()
        stage.hear(OK)
        assert not stage.rests

    @pytest.mark.parametrize("is_unsent", [True, False])
    def test_is_not_for_one_that_answered_before_the_request_had_left(self, is_unsent):
        stage = Stage(request(b"POST /a HTTP/1.1", b"Content-Length: 4"))
        stage.connection.send_content(b"abcd")
        if is_unsent:
            stage.connection.end()
            stage.transport.unsent = 4
        stage.hear(OK)
        assert not stage.rests

    def test_is_for_one_that_has_read_an_upload_of_known_length(self):
        stage = Stage(request(b"POST /a HTTP/1.1", b"Content-Length: 4"))
        stage.connection.send_content(b"abcd")
        stage.connection.end()
        stage.around.context.outbox.flush()
        stage.hear(OK)
        assert stage.rests

    def test_ends_when_the_app_speaks_unasked(self):
        stage = Stage()
        stage.hear(OK)
        stage.hear(OK)
        assert not stage.rests
        assert stage.transport.end == "aborted"

    def test_ends_when_the_app_closes(self):
        stage = Stage()
        stage.hear(OK)
        stage.connection.eof_received()
        stage.connection.connection_lost(None)
        assert stage.pool.resting == []
        assert stage.around.stats.upstream_connections == 0

    def test_second_request_may_be_tried_again_and_the_first_may_not(self):
        for asked_before, may_retry in ((False, False), (True, True)):
            stage = Stage()
            if asked_before:
                stage.hear(OK)
                stage.ask(GET)
            stage.connection.connection_lost(None)
            assert stage.around.take() == [f"upstream_lost may_retry={may_retry} detail="]
            assert stage.pool.closed == [stage.connection] * may_retry, "what the app does with connections"

    def test_bytes_of_an_answer_make_the_request_one_that_was_served(self):
        stage = Stage()
        stage.hear(OK)
        stage.ask(GET)
        stage.hear(b"HTTP/1.1 2")
        stage.connection.connection_lost(None)
        assert stage.around.take() == ["upstream_lost may_retry=False detail="]


class Owner:
    def __init__(self) -> None:
        self.lost = 0

    def pinned_lost(self) -> None:
        self.lost += 1


class Test_Pinned:
    def make(self, head=GET):
        stage, owner = Stage(head), Owner()
        stage.connection.belong_to(owner)
        return stage, owner

    @pytest.mark.parametrize("data", [OK, b"HTTP/1.1 304 Not Modified\r\n\r\n"])
    def test_rests_with_its_owner_and_not_in_the_pool(self, data):
        stage, owner = self.make()
        stage.hear(data)
        assert (stage.connection.phase, stage.pool.resting, owner.lost) == (Phase.RESTING, [], 0)
        assert stage.connection.may_rest

    def test_tells_its_owner_when_it_is_lost_at_rest(self):
        stage, owner = self.make()
        stage.hear(OK)
        stage.connection.connection_lost(None)
        assert owner.lost == 1

    def test_tells_its_owner_when_it_speaks_unasked(self):
        stage, owner = self.make()
        stage.hear(OK)
        stage.hear(OK)
        assert (owner.lost, stage.transport.end) == (1, "aborted")

    def test_says_before_the_head_is_passed_on_that_it_will_end(self):
        stage, _ = self.make(request(b"HEAD /a HTTP/1.1"))
        may_rest = []
        stage.listener.on_head = lambda _response: may_rest.append(stage.connection.may_rest)
        stage.hear(reply(b"Content-Length: 2", content=b""))
        assert may_rest == [False]


class Test_Tunnel:
    def make(self):
        stage = Stage(request(b"GET /a HTTP/1.1", b"Connection: upgrade", b"Upgrade: echo"))
        stage.listener.on_head = lambda _response: stage.connection.switch_protocols(stage.listener)
        told = stage.hear(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nearly")
        assert told == ["head 101", "from_upstream early"]
        return stage

    def test_hears_nothing_after_its_end(self):
        for how in ("abort", "close"):
            stage = self.make()
            getattr(stage.connection, how)()
            assert stage.hear(b"late") == []
            stage.connection.connection_lost(None)
            assert stage.around.take() == []

    def test_is_told_of_a_mistake_of_the_proxy(self):
        stage = self.make()
        stage.listener.from_upstream = broken
        assert stage.hear(b"bytes") == ["fail internal_error"]

    def test_passes_bytes_and_half_closes_on(self):
        stage = self.make()
        assert stage.hear(b"bytes") == ["from_upstream bytes"]
        assert stage.connection.eof_received()
        assert stage.around.take() == ["half-closed"]

    @pytest.mark.parametrize(("error", "was_reset"), [(None, False), (ConnectionResetError(), True)])
    def test_says_how_it_ended(self, error, was_reset):
        stage = self.make()
        stage.transport.get_extra_info = lambda name, _default=None: name == "ssl_object" or None
        stage.connection._has_ended = True
        stage.connection.connection_lost(error)
        assert stage.around.take() == [f"upstream_gone was_reset={was_reset}"]


class Test_Own_mistake:
    """A callback that fails is logged, and the client answered."""

    @pytest.mark.parametrize("callback", ["data_received", "eof_received", "pause_writing", "resume_writing"])
    def test_in_any_callback_fails_the_exchange(self, callback, caplog):
        stage = Stage()

        class Broken:
            def fail(self, failure):
                stage.around.told.append(f"fail {failure.reason}")

        stage.connection._exchange = Broken()
        stage.connection._tunnel = Broken() if callback == "eof_received" else None
        arguments = [OK] if callback == "data_received" else []
        getattr(stage.connection, callback)(*arguments)
        assert stage.around.take() == ["fail internal_error"]
        assert caplog.records[0].exc_info

    def test_as_the_buffer_is_chosen(self):
        stage = Stage()
        stage.connection._most_read = SMALL_BYTES
        stage.listener.room = broken
        assert stage.connection.get_buffer(1) is stage.around.context.inbox.small
        assert stage.around.take() == ["fail internal_error"]

    @pytest.mark.parametrize("broken_part", ["large_content", "pause_reading"])
    def test_in_a_large_read(self, broken_part):
        stage = Stage()
        stage.hear(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n")
        inbox = stage.around.context.inbox
        buffer = inbox.buffer
        stage.connection._taken = TURN_BYTES
        if broken_part == "pause_reading":
            stage.transport.pause_reading = broken
            stage.listener.has_unsent_content = lambda: False
        else:
            stage.listener.large_content = broken
        stage.connection.buffer_updated(SMALL_BYTES + 1)
        assert stage.around.take()[-1] == "fail internal_error"
        assert inbox.buffer is not buffer, "a part of it may wait to be written"
