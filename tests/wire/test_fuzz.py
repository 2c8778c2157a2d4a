"""Random and damaged bytes in random pieces: no guarantee breaks, whatever either side sends.

`FUZZ_EPISODES=1000000 pytest tests/wire/test_fuzz.py` is a longer form; `FUZZ_SEED` starts elsewhere. A failure names
its seed.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.wire.fuzz import Episodes, forwarded_in_pieces
from tests.wire.fuzz_messages import random_requests

EPISODES = int(os.environ.get("FUZZ_EPISODES", "10000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
MANY = 150_000  # with 300,000 requests and more


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(EPISODES, marks=pytest.mark.timeout(max(120, EPISODES // 100))),
        pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_no_bytes_from_either_side_break_a_guarantee(count: int) -> None:
    """In every episode, of both connections' protocols, with congestion, time-outs and either side leaving:

    nothing is raised; nothing hangs or leaks; what is written to the upstream and to the client can be read by
    a strict parser in one way only; the gateway's own responses, and all where a rule says so, may not be
    stored; a response that was cut does not end cleanly; no client gets an answer, or a connection, of another.
    """
    episodes = Episodes()
    for seed in range(SEED, SEED + count):
        episodes.run(seed)
    print(f"\n{count} episodes, 0 foreign, 0 unprotected:", dict(episodes.steps))
    print(dict(episodes.seen.most_common()))
    assert {"200", "204", "304", "101", "408", "414", "499", "501", "502", "504"} <= {
        outcome.partition(" ")[0] for outcome in episodes.seen
    }, "the traffic no longer reaches every kind of end"
    rare = {"large reads with a head"}
    assert all(times > count // (1000 if step in rare else 50) for step, times in episodes.steps.items()), (
        episodes.steps
    )
    assert episodes.seen["200"] > count // 20, "too little of it is well-formed to mean anything"
    assert count < MANY or episodes.steps["requests"] >= 300_000


def test_pieces_that_requests_arrive_in_change_nothing() -> None:
    """The same bytes, whole and byte by byte, lead to the same requests upstream and the same statuses."""
    for seed in range(SEED, SEED + EPISODES // 10):
        data = random_requests(random.Random(seed))
        whole = forwarded_in_pieces(data, len(data))
        for size in (1, 13):
            assert forwarded_in_pieces(data, size) == whole, (seed, data)
