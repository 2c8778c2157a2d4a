"""The laws of counting: a snapshot is a copy, merging is adding, and both keep every name and every row."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.stats import DURATION_BOUNDS_S, Stats, merge

EMPTY = Stats().snapshot()
SCALARS = [name for name, value in EMPTY.items() if isinstance(value, int)]
TABLES = [name for name, value in EMPTY.items() if isinstance(value, dict) and name != "requests"]

RULES = st.sampled_from(["", "ajax", "fetch", "downloads"])
few = settings(max_examples=50)  # each draws hundreds of numbers

# Halves add up exactly in any order, so that laws on sums hold to the last bit.
DURATIONS = st.integers(0, 200).map(lambda number: number / 2)
EXCHANGES = st.tuples(RULES, st.sampled_from(["", "GET", "POST"]), st.integers(100, 599), DURATIONS)


def worked(exchanges: list[tuple], numbers: dict[str, int], rows: dict[tuple[str, str], int]) -> Stats:
    """A worker's counters after some work."""
    stats = Stats()
    for exchange in exchanges:
        stats.count_exchange(*exchange)
    for name, number in numbers.items():
        setattr(stats, name, number)
    for (name, row), number in rows.items():
        getattr(stats, name)[row] += number
    return stats


COUNTED = st.builds(
    worked,
    st.lists(EXCHANGES, max_size=4),
    st.dictionaries(st.sampled_from(SCALARS), st.integers(0, 1 << 40), max_size=3),
    st.dictionaries(st.tuples(st.sampled_from(TABLES), RULES), st.integers(1, 9), max_size=3),
)
SNAPSHOTS = COUNTED.map(Stats.snapshot)


# Snapshots


@pytest.mark.interpreted
def test_snapshot_has_every_counter_under_its_name():
    assert set(EMPTY) == set(Stats.__slots__)
    assert set(EMPTY) == {*SCALARS, *TABLES, "requests", "duration_buckets", "duration_sum_s"}
    assert not any(any(value) if isinstance(value, list) else value for value in EMPTY.values())


@few
@given(COUNTED)
def test_snapshot_tells_what_was_counted(stats):
    snapshot = stats.snapshot()
    assert {name: getattr(stats, name) for name in snapshot} == snapshot


@few
@given(COUNTED, EXCHANGES)
def test_snapshot_is_a_copy_that_later_requests_do_not_change(stats, exchange):
    """A scrape reads it in slices while requests go on."""
    snapshot = stats.snapshot()
    before = pickle.dumps(snapshot)
    stats.count_exchange(*exchange)
    stats.in_flight += 1
    for name in TABLES:
        getattr(stats, name)["later"] += 1
    assert pickle.dumps(snapshot) == before


@few
@given(SNAPSHOTS)
def test_snapshot_is_plain_values_that_a_channel_and_json_can_carry(snapshot):
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    plain = {**snapshot, "requests": [[*key, number] for key, number in snapshot["requests"].items()]}
    assert json.loads(json.dumps(plain)) == plain
    for name in TABLES:
        assert type(snapshot[name]) is dict, f"{name} would make rows of what is looked up in it"


# One exchange


@few
@given(st.lists(EXCHANGES, max_size=10))
def test_each_exchange_is_counted_once_in_its_row_and_once_in_a_bucket(exchanges):
    stats = Stats()
    for exchange in exchanges:
        stats.count_exchange(*exchange)
    rows = Counter((rule, method, status // 100) for rule, method, status, _ in exchanges)
    assert stats.requests == rows
    assert sum(stats.duration_buckets) == len(exchanges)
    assert stats.duration_sum_s == sum(duration_s for *_, duration_s in exchanges)


@pytest.mark.parametrize(("index", "bound_s"), list(enumerate(DURATION_BOUNDS_S)))
def test_bucket_holds_what_took_up_to_its_bound_and_no_longer(index, bound_s):
    """Prometheus' `le`: less than or equal."""
    stats = Stats()
    stats.count_exchange("", "GET", 200, bound_s)
    assert stats.duration_buckets[index] == 1
    stats.count_exchange("", "GET", 200, bound_s * 1.001)
    assert stats.duration_buckets[index : index + 2] == [1, 1]


def test_there_is_a_bucket_for_each_bound_and_one_without_and_bounds_rise():
    assert len(EMPTY["duration_buckets"]) == len(DURATION_BOUNDS_S) + 1
    assert sorted(set(DURATION_BOUNDS_S)) == list(DURATION_BOUNDS_S)
    stats = Stats()
    stats.count_exchange("", "GET", 200, 1e9)
    assert stats.duration_buckets[-1] == 1


# Merging


def test_of_no_worker_there_are_zeros_and_no_name_is_missing():
    assert merge([]) == EMPTY


@few
@given(SNAPSHOTS)
def test_of_one_worker_there_is_what_it_counted(snapshot):
    assert merge([snapshot]) == snapshot
    assert merge([EMPTY, snapshot]) == merge([snapshot, EMPTY]) == snapshot


@few
@given(st.lists(SNAPSHOTS, max_size=3))
def test_merging_is_adding_and_the_order_does_not_matter(snapshots):
    total = merge(snapshots)
    assert merge(reversed(snapshots)) == total
    assert reduce(lambda left, right: merge([left, right]), snapshots, EMPTY) == total
    for name in [*SCALARS, "duration_sum_s"]:
        assert total[name] == sum(snapshot[name] for snapshot in snapshots)
    for name in [*TABLES, "requests"]:
        assert total[name] == sum((Counter(snapshot[name]) for snapshot in snapshots), Counter())
    for index, number in enumerate(total["duration_buckets"]):
        assert number == sum(snapshot["duration_buckets"][index] for snapshot in snapshots)


@few
@given(st.lists(st.lists(EXCHANGES, max_size=6), max_size=4))
def test_several_workers_have_counted_what_one_would_have(shares):
    alone = Stats()
    workers = [Stats() for _ in shares]
    for stats, share in zip(workers, shares, strict=True):
        for exchange in share:
            alone.count_exchange(*exchange)
            stats.count_exchange(*exchange)
    assert merge(stats.snapshot() for stats in workers) == alone.snapshot()


@few
@given(st.lists(SNAPSHOTS, min_size=1, max_size=3))
def test_merging_leaves_what_is_merged_as_it_was(snapshots):
    """The supervisor keeps the latest of each worker, and those of workers that have ended."""
    before = pickle.dumps(snapshots)
    merge(snapshots)
    assert pickle.dumps(snapshots) == before


def test_histograms_of_different_programs_are_not_added():
    with pytest.raises(ValueError, match="shorter"):
        merge([EMPTY, {**EMPTY, "duration_buckets": [0]}])
