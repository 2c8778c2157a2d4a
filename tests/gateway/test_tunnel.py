"""The tunnel as a transcript: bytes both ways, and what ends them."""

from __future__ import annotations

import pytest

from proxy.gateway import failures
from proxy.gateway.record import Record
from proxy.gateway.tunnel import Tunnel
from proxy.message.websocket import GOING_AWAY, GOING_AWAY_FROM_CLIENT
from tests.gateway.fakes import FakeClient, FakeUpstream, Surroundings


class Stage:
    def __init__(self, *, is_websocket=False):
        self.around = Surroundings()
        self.around.stats.in_flight = 1
        self.client = FakeClient(self.around.told)
        self.upstream = FakeUpstream(self.around.told)
        self.tunnel = Tunnel(
            self.around.context, self.client, self.upstream, Record(), is_websocket=is_websocket
        )

    @property
    def told(self):
        return self.around.take()

    def has_ended(self, failure=None):
        stats = self.around.stats
        return (stats.tunnels, stats.in_flight, self.around.record.failure) == (0, 0, failure)


def test_bytes_pass_as_they_come_and_are_counted():
    stage = Stage()
    assert (stage.around.stats.tunnels, stage.around.stats.tunnels_total) == (1, 1)
    stage.tunnel.from_client(b"ping")
    stage.tunnel.from_upstream(b"pongs")
    assert stage.told == ["upstream: bytes ping", "client: bytes pongs"]
    stage.tunnel.client_left()
    assert (stage.around.record.bytes_in, stage.around.record.bytes_out) == (4, 5)


@pytest.mark.parametrize("move", ["from_client", "from_upstream"])
def test_any_byte_in_any_direction_puts_the_end_off(move):
    stage = Stage()
    assert stage.client.patience_s == 300
    stage.client.deadline_s = 0
    getattr(stage.tunnel, move)(b"x")
    assert stage.client.patience_s == 300


def test_silence_resets_both():
    stage = Stage()
    stage.tunnel.timed_out()
    assert stage.told == ["upstream: abort", "client: reset"]
    assert stage.has_ended(failures.UPSTREAM_STALLED.with_detail("idle tunnel"))


def test_half_close_is_passed_on_and_the_other_direction_goes_on():
    stage = Stage()
    assert stage.tunnel.client_half_closed()
    stage.tunnel.from_upstream(b"more")
    assert stage.told == ["upstream: half-close", "client: bytes more"]
    stage = Stage()
    assert stage.tunnel.upstream_half_closed()
    stage.tunnel.from_client(b"more")
    assert stage.told == ["client: half-close", "upstream: bytes more"]


def test_with_the_second_half_close_both_end_when_all_has_left():
    for first, second in (("client", "upstream"), ("upstream", "client")):
        stage = Stage()
        assert getattr(stage.tunnel, f"{first}_half_closed")()
        _ = stage.told
        assert not getattr(stage.tunnel, f"{second}_half_closed")()
        assert stage.told == ["upstream: close", "client: close"]
        assert stage.has_ended()


def test_either_side_holds_the_other_back():
    stage = Stage()
    stage.tunnel.pause_request()
    stage.tunnel.resume_request()
    stage.tunnel.pause_response()
    stage.client.deadline_s = 0
    stage.tunnel.resume_response()
    assert stage.client.patience_s == 300
    assert stage.told == [
        "client: pause upstream",
        "client: resume upstream",
        "upstream: pause",
        "upstream: resume",
    ]


def test_what_ends_with_a_reset_ends_with_one_on_the_other_side():
    stage = Stage()
    stage.tunnel.upstream_gone(was_reset=True)
    assert stage.told == ["upstream: abort", "client: reset"]
    assert stage.has_ended(failures.UPSTREAM_CLOSED)
    stage = Stage()
    stage.tunnel.upstream_gone(was_reset=False)
    assert stage.told == ["client: close"]
    assert stage.has_ended()


def test_client_that_leaves_is_no_failure():
    stage = Stage()
    stage.tunnel.client_left()
    assert stage.told == ["upstream: abort"]
    assert stage.has_ended()


def test_the_end_comes_but_once():
    stage = Stage()
    stage.tunnel.fail(failures.INTERNAL)
    _ = stage.told
    stage.tunnel.client_left()
    stage.tunnel.upstream_gone(was_reset=False)
    stage.tunnel.reset(failures.DRAINED)
    assert not stage.tunnel.client_half_closed()
    assert stage.told == []
    assert stage.has_ended(failures.INTERNAL)


TEXT = b"\x81\x04ping"
MASKED = b"\x81\x84\0\0\0\0ping"


class Test_Drain:
    def test_ends_frames_of_websocket_with_a_close_frame_to_either_side(self):
        """RFC 6455 section 5.5.1: 1001, going away; a client masks its frames."""
        stage = Stage(is_websocket=True)
        stage.tunnel.from_client(MASKED)
        stage.tunnel.from_upstream(TEXT)
        _ = stage.told
        stage.tunnel.drain()
        assert stage.told == [
            f"client: bytes {GOING_AWAY.decode('latin-1')}",
            f"upstream: bytes {GOING_AWAY_FROM_CLIENT.decode('latin-1')}",
            "upstream: close",
            "client: close",
        ]
        assert stage.has_ended(failures.DRAINED)

    @pytest.mark.parametrize("side", ["from_client", "from_upstream"])
    def test_waits_for_the_end_of_a_frame_of_either_side(self, side):
        stage = Stage(is_websocket=True)
        move = getattr(stage.tunnel, side)
        frame = MASKED if side == "from_client" else TEXT
        move(frame[:-1])
        _ = stage.told
        stage.tunnel.drain()
        assert stage.told == []
        move(frame[-1:])
        stage.tunnel.drain()
        assert stage.told[-2:] == ["upstream: close", "client: close"]

    def test_says_nothing_into_a_direction_that_has_ended(self):
        stage = Stage(is_websocket=True)
        stage.tunnel.client_half_closed()
        _ = stage.told
        stage.tunnel.drain()
        assert stage.told == ["upstream: close", "client: close"]

    def test_ends_other_bytes_after_a_tick_without_one(self):
        stage = Stage()
        stage.tunnel.from_client(b"a")
        _ = stage.told
        stage.tunnel.drain()
        assert stage.told == []
        stage.around.context.clock.now_s += 0.25
        stage.tunnel.drain()
        assert stage.told == ["upstream: close", "client: close"]
        stage.tunnel.drain()
        assert stage.told == []
