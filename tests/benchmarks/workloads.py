"""What is asked of every peer: which request, over how many connections, and what the answer must be."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tests.benchmarks import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

Request = Literal["repeated", "distinct", "download-64k", "download-1m", "upload-1m", "pieces"]


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of load.

    Attributes:
        name: As given to --workloads.
        title: As shown in the table.
        request: What every connection sends again and again.
        connections: How many at a time; each has one request in flight.
        rate_per_s: Requests a second, sent on time whatever the answers do; 0: as many as possible.
        only_own: Nothing to compare it with at other peers.
    """

    name: str
    title: str
    request: Request
    connections: int
    rate_per_s: int = 0
    only_own: bool = False


WORKLOADS: Final = (
    Workload("json", "small JSON, 32 connections", "repeated", 32),
    Workload("distinct", "the same, every path and cookie different", "distinct", 32),
    Workload("json-256", "small JSON, 256 connections", "repeated", 256),
    Workload("json-1000", "small JSON, 1,000 connections", "repeated", 1000),
    Workload("download-64k", "64 KiB downloads, 32 connections", "download-64k", 32),
    Workload("download-1m", "1 MiB downloads, 16 connections", "download-1m", 16),
    Workload("upload-1m", "1 MiB uploads, 16 connections", "upload-1m", 16),
    Workload("pieces", "chunked responses of 20 pieces, 32 connections", "pieces", 32),
    Workload("rate-1000", "small JSON, 1,000 requests/s, 32 connections", "repeated", 32, rate_per_s=1000),
    Workload("rules-1", "small JSON, 1 rule", "repeated", 32, only_own=True),
    Workload("rules-1000", "small JSON, 1,000 rules", "repeated", 32, only_own=True),
    Workload("rules-1-distinct", "all different, 1 rule", "distinct", 32, only_own=True),
    Workload("rules-1000-distinct", "all different, 1,000 rules", "distinct", 32, only_own=True),
    Workload("workers-1", "small JSON, 256 connections, --workers 1", "repeated", 256, only_own=True),
    Workload("workers-2", "small JSON, 256 connections, --workers 2", "repeated", 256, only_own=True),
)
BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}


@dataclass(frozen=True, slots=True)
class Expected:
    """What an answer must be: its content, and whether a rule matched."""

    content: bytes
    is_enforced: bool
    is_chunked: bool = False


def expected(request: Request) -> Expected:
    """Return what every answer to a kind of request must be."""
    return {
        "repeated": Expected(messages.SMALL_CONTENT, is_enforced=True),
        "distinct": Expected(messages.SMALL_CONTENT, is_enforced=True),
        "download-64k": Expected(messages.BLOCK_64_KIB, is_enforced=False),
        "download-1m": Expected(messages.BLOCK_1_MIB, is_enforced=False),
        "upload-1m": Expected(messages.RECEIVED, is_enforced=False),
        "pieces": Expected(messages.STREAM_CONTENT, is_enforced=True, is_chunked=True),
    }[request]


def requests(request: Request) -> Iterator[bytes]:
    """Return the requests to send, one after the other, without end."""
    if request == "distinct":
        return _distinct()
    return itertools.repeat(
        {
            "repeated": messages.request(
                b"GET /api/files/overview?folder=finance", messages.COOKIE, messages.SCRIPT_FIELD
            ),
            "download-64k": messages.navigation(b"GET /blob/64k"),
            "download-1m": messages.navigation(b"GET /blob/1m"),
            "upload-1m": messages.request(
                b"POST /upload", messages.COOKIE, messages.SCRIPT_FIELD, b"Content-Length: %d" % messages.MIB
            )
            + messages.BLOCK_1_MIB,
            "pieces": messages.request(b"GET /stream", messages.COOKIE, messages.SCRIPT_FIELD),
        }[request]
    )


def _distinct() -> Iterator[bytes]:
    head, middle, tail = (
        messages.request(
            b"GET /api/files/%b/overview?folder=%b",
            b"Cookie: session=eyJ1c2VyIjo0Mn0.%b; theme=dark",
            messages.SCRIPT_FIELD,
        )
        .replace(b"folder=%b", b"folder=finance")
        .split(b"%b")
    )
    for number in itertools.count():
        key = b"%08x" % (number * 2654435761 % 2**32)
        yield head + key + middle + key + tail


def rules_file(count: int) -> str:
    """Return a rules file in which only the last of `count` rules matches what is asked."""
    others = "".join(
        f"  - name: other-{number}\n"
        f"    match: {{paths: ['/apps/{number}/views/*/last/**'], x_requested_with: XMLHttpRequest}}\n"
        "    policy: strict\n"
        for number in range(count - 1)
    )
    last = (
        "  - name: ajax\n"
        "    match: {methods: [GET], paths: ['/**'], x_requested_with: XMLHttpRequest}\n"
        "    policy: classic\n"
    )
    return f"version: 1\nrules:\n{others}{last}"
