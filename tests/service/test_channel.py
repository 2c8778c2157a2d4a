"""The contract of the channel: frames arrive whole, in order, as they were sent; then `None`, once and for all.

A worker that gets no frames any more has lost its supervisor: it ends by itself.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.service.channel import Channel, Drain, Report, Start, UseRules
from proxy.settings import Address, Settings, Upstream
from proxy.stats import Stats
from tests.support.waiting import LIMIT_S

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(
    upstream=Upstream.parse("https://app:8443"),
    listen=Address.parse("[::1]:80"),
    admin=None,
    rules=Path("some/rules.yaml"),
    idle_timeout_s=0.5,
)
QUIET = Start(
    Settings(upstream=Upstream.parse("http://127.0.0.1:1"), access_log="off"),
    b"version: 1\nrules: []\n",
    b"secret",
)
COUNTED = Stats()
COUNTED.count_exchange("ajax", "GET", 200, 0.1)
COUNTED.upstream_errors["refused"] += 1
FRAMES = [
    Start(SETTINGS, b"version: 1\nrules: []\n", b"secret"),
    UseRules(b""),
    UseRules(bytes(range(256))),
    Drain(0.25),
    "snapshot",
    "reopen-log",
    Report("serving"),
    Report("snapshot", snapshot=COUNTED.snapshot()),
    Report("drained", aborted=3),
]


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends."""
    ours, theirs = socket.socketpair()
    channels = await Channel.open(ours), await Channel.open(theirs)
    try:
        yield channels
    finally:
        for channel in channels:
            await channel.close()


@asynccontextmanager
async def raw() -> AsyncIterator[tuple[Channel, socket.socket]]:
    """One end, and the other's socket for bytes that no `Channel` would write."""
    ours, theirs = socket.socketpair()
    channel = await Channel.open(ours)
    try:
        with theirs:
            yield channel, theirs
    finally:
        await channel.close()


async def received(channel: Channel) -> object:
    async with asyncio.timeout(LIMIT_S):
        return await channel.receive()


async def written(*frames: object) -> bytes:
    """The bytes of these frames."""
    async with raw() as (channel, theirs):
        for frame in frames:
            channel.send(frame)
        await channel.close()
        with theirs.makefile("rb") as stream:
            return stream.read()


# Frames


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
async def test_frame_arrives_as_it_was_sent(frame):
    async with pair() as (ours, theirs):
        ours.send(frame)
        assert await received(theirs) == frame


async def test_frames_arrive_in_order_in_both_directions_at_once():
    async with pair() as (ours, theirs):
        for frame in FRAMES:
            ours.send(frame)
        for frame in reversed(FRAMES):
            theirs.send(frame)
        assert [await received(theirs) for _ in FRAMES] == FRAMES
        assert [await received(ours) for _ in FRAMES] == FRAMES[::-1]


async def test_frame_may_be_larger_than_any_buffer_on_the_way():
    """A thousand rules are 200 kB."""
    rules = bytes(5 << 20)
    async with pair() as (ours, theirs):
        ours.send(UseRules(rules))
        ours.send("snapshot")
        assert await received(theirs) == UseRules(rules)
        assert await received(theirs) == "snapshot"


async def test_frames_may_come_a_byte_at_a_time():
    data = await written(*FRAMES)
    async with raw() as (channel, theirs):
        receiving = asyncio.ensure_future(all_of(channel))
        for byte in data:
            theirs.send(bytes([byte]))
            await asyncio.sleep(0)
        theirs.shutdown(socket.SHUT_WR)
        assert await receiving == FRAMES


@settings(max_examples=50)
@given(
    frames=st.lists(
        st.sampled_from(FRAMES) | st.binary(max_size=300).map(UseRules) | st.builds(Drain, st.floats(0, 100)),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
async def test_however_the_bytes_are_cut_the_frames_are_the_same(frames, cuts):
    data = await written(*frames)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    async with raw() as (channel, theirs):
        receiving = asyncio.ensure_future(all_of(channel))
        for start, end in pairwise(places):
            theirs.sendall(data[start:end])
            await asyncio.sleep(0)
        theirs.shutdown(socket.SHUT_WR)
        assert await receiving == frames


async def all_of(channel: Channel) -> list[object]:
    frames = []
    while (frame := await received(channel)) is not None:
        frames.append(frame)
    return frames


# The end


async def test_close_writes_what_is_pending():
    async with pair() as (ours, theirs):
        ours.send(UseRules(bytes(1 << 20)))
        closing = asyncio.ensure_future(ours.close())
        assert await received(theirs) == UseRules(bytes(1 << 20))
        await closing
        assert await received(theirs) is None
        assert await received(theirs) is None


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, -1])
async def test_frame_that_is_cut_is_the_end_and_none_at_all(size):
    data = await written("snapshot")
    async with raw() as (channel, theirs):
        theirs.sendall(data + data[:size])
        theirs.shutdown(socket.SHUT_WR)
        assert await received(channel) == "snapshot"
        assert await received(channel) is None
        assert await received(channel) is None


async def test_peer_that_was_killed_with_frames_unread_is_gone():
    """The kernel says so with a reset, not with an end."""
    async with raw() as (channel, theirs):
        channel.send("snapshot")
        theirs.close()
        assert await received(channel) is None


async def test_frames_to_a_peer_that_is_gone_are_dropped_without_an_error(caplog):
    async with raw() as (channel, theirs):
        theirs.close()
        for _ in range(20):
            channel.send(UseRules(bytes(100_000)))
            await asyncio.sleep(0)
        assert await received(channel) is None
        await channel.close()
        channel.send("snapshot")
    assert caplog.records == []


# Bytes that are no frame


def framed(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


GARBAGE = {
    "nothing in it": framed(b""),
    "text": framed(b"Traceback (most recent call last):\n"),
    "cut short inside": framed(pickle.dumps(FRAMES[0])[:-9]),
    "a class of another version": framed(pickle.dumps(Drain(1)).replace(b"\x05Drain", b"\x05Drein")),
    "a module of another version": framed(pickle.dumps(Drain(1)).replace(b"channel", b"chemnel")),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_frame_is_the_end_and_is_logged(data, caplog):
    """The peer cannot be understood any more; to go on would mean to guess where the next frame begins."""
    async with raw() as (channel, theirs):
        theirs.sendall(data)
        assert await received(channel) is None
    (record,) = caplog.records
    assert record.exc_info


async def test_length_of_a_frame_that_never_comes_is_no_memory():
    async with raw() as (channel, theirs):
        theirs.sendall(b"\xff\xff\xff\xff" + b"some")
        theirs.shutdown(socket.SHUT_WR)
        assert await received(channel) is None


# A worker at the other end


@asynccontextmanager
async def worker() -> AsyncIterator[tuple[asyncio.subprocess.Process, Channel, socket.socket]]:
    """A worker process whose supervisor is the test: by a channel, or by the socket below it."""
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening, theirs:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "proxy.service.worker_process",
                str(theirs.fileno()),
                str(listening.fileno()),
            ),
            pass_fds=(theirs.fileno(), listening.fileno()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
    with ours:
        channel = await Channel.open(ours.dup())
        try:
            yield process, channel, ours
        finally:
            await channel.close()
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def said(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Exit code and what was written, once it has ended."""
    async with asyncio.timeout(LIMIT_S):
        out, log = await process.communicate()
    return process.returncode, (out + log).decode()


async def test_worker_without_a_supervisor_ends_before_it_serves():
    async with worker() as (process, channel, ours):
        await channel.close()
        ours.close()
        assert await said(process) == (0, "")


@pytest.mark.parametrize("frame", ["snapshot", Drain(0), UseRules(b"")], ids=repr)
async def test_worker_that_is_not_told_its_settings_first_ends(frame):
    async with worker() as (process, channel, _):
        channel.send(frame)
        assert await received(channel) is None
        assert await said(process) == (0, "")


async def test_worker_answers_and_drains_and_says_how_it_went():
    async with worker() as (process, channel, _):
        channel.send(QUIET)
        assert await received(channel) == Report("serving")
        channel.send(Report("serving"))  # of no meaning to a worker, and no reason to end
        channel.send("snapshot")
        assert await received(channel) == Report("snapshot", snapshot=Stats().snapshot())
        channel.send(Drain(1))
        assert await received(channel) == Report("drained", aborted=0)
        assert await received(channel) is None
        assert await said(process) == (0, "")


async def test_worker_that_serves_ends_when_its_supervisor_is_gone():
    async with worker() as (process, channel, ours):
        channel.send(QUIET)
        assert await received(channel) == Report("serving")
        await channel.close()
        ours.close()
        assert await said(process) == (0, "")


async def test_worker_that_serves_drains_when_its_supervisor_is_beside_itself():
    async with worker() as (process, channel, ours):
        channel.send(QUIET)
        assert await received(channel) == Report("serving")
        ours.send(GARBAGE["text"])
        assert await received(channel) == Report("drained", aborted=0)
        code, log = await said(process)
        assert code == 0
        assert "cannot read a frame" in json.loads(log)["message"]


async def test_worker_that_cannot_take_new_rules_keeps_those_it_has():
    """It ended, and all that it had under way with it."""
    async with worker() as (process, channel, _):
        channel.send(QUIET)
        assert await received(channel) == Report("serving")
        channel.send(UseRules(b"version: 2"))
        channel.send("snapshot")
        report = await received(channel)
        assert isinstance(report, Report)
        assert report.snapshot is not None
        assert report.snapshot["proxy_errors"] == {"internal_error": 1}
        channel.send(Drain(0))
        assert await received(channel) == Report("drained")
        _, log = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert b"taking new ones failed" in log
    assert process.returncode == 0
