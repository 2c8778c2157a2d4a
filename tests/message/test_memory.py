"""What is remembered of bytes that come again: what came twice, and no more than a few MiB of whatever peers make up."""

from __future__ import annotations

import tracemalloc

import pytest

from proxy.message.memory import Memory
from proxy.message.request import RequestTable
from proxy.message.response import ResponseTable


def test_what_came_twice_is_known():
    memory: Memory[int] = Memory()
    memory.add(b"a", 1)
    assert memory.known == {}
    memory.add(b"a", 2)
    assert memory.known == {b"a": 2}


def test_what_is_long_or_has_many_lines_is_not():
    memory: Memory[int] = Memory()
    for key in (b"x" * 2048, b"x" * 2049, b"\r\n" * 64, b"\r\n" * 65):
        memory.add(key, 1)
        memory.add(key, 1)
    assert list(memory.known) == [b"x" * 2048, b"\r\n" * 64]


def read_request(table: RequestTable, fields: bytes) -> object:
    return table.read(b"GET / HTTP/1.1\r\nHost: a" + fields)


def read_response(table: ResponseTable, fields: bytes) -> object:
    return table.take(b"HTTP/1.1 200 OK" + fields, "GET", 65_536)


@pytest.mark.parametrize(("table", "read"), [(RequestTable, read_request), (ResponseTable, read_response)])
@pytest.mark.parametrize("count", [14, 60, 250])
def test_heads_that_peers_make_up_take_little(table, read, count):
    made = table()
    tracemalloc.start()
    try:
        for number in range(250):
            value = b"%x" % number * (1 if count > 60 else 500 // count)
            fields = b"".join(b"\r\n%x: %b" % (place, value) for place in range(count)) + b"\r\n\r\n"
            for _ in range(2):
                read(made, fields)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 4 << 20
