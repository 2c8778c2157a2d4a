"""The law of `explain`: what it says of a request and a response is what the gateway does, over real sockets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings

from proxy.gateway.access_log import AccessLog
from proxy.gateway.record import Record
from proxy.rules.engine.matching import Ruleset
from proxy.rules.loading.loader import loads
from proxy.rules.tools.dry_run import SOME_DATE, TrialRequest, TrialResponse, read_fields
from proxy.rules.tools.explain import Explanation, explain
from tests.rules import strategies
from tests.support.gateway import bench
from tests.support.peer import Peer

# The app frames its responses, so that client and app connections serve all examples.
EMPTY = (b"Content-Length", b"0")


class Live:
    """A gateway on a loop of its own, between one client and an app that answers as it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._response = b""
        self._loop = uvloop.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        self._bench = self._loop.run_until_complete(self._stack.enter_async_context(bench(self._app)))
        self._bench.gateway.context.recorder.access_log = self
        self._client = self._loop.run_until_complete(self._bench.connect())

    # What the gateway asks of an access log

    dropped = 0

    def write(self, record: Record) -> None:
        self.records.append(record)

    def flush(self) -> None: ...

    def exchange(
        self, ruleset: Ruleset, request: TrialRequest, response: TrialResponse
    ) -> tuple[Record, list[tuple[bytes, bytes]]]:
        """Return what was logged, and the fields of the client's response, those of the connection left out."""
        return self._loop.run_until_complete(self._exchange(ruleset, request, response))

    def close(self) -> None:
        self._bench.gateway.context.recorder.access_log = AccessLog("off")
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()

    async def _exchange(
        self, ruleset: Ruleset, request: TrialRequest, response: TrialResponse
    ) -> tuple[Record, list[tuple[bytes, bytes]]]:
        self.records.clear()
        self._bench.gateway.ruleset = ruleset
        self._response = head(b"HTTP/1.1 %d OK" % response.status, response.fields)
        start = request.method.encode() + b" " + request.target + b" HTTP/1.1"
        await self._client.send(head(start, ((b"Host", b"localhost"), *request.fields)))
        if request.method == "HEAD":
            data = await self._client.read_head()
        else:
            data = (await self._client.read_response()).data
        fields = read_fields(data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])
        (record,) = self.records
        return record, fields

    async def _app(self, peer: Peer) -> None:
        while True:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(self._response)


def head(start: bytes, fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"\r\n".join([start, *(name + b": " + value for name, value in fields), b"", b""])


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    running = Live()
    yield running
    running.close()


def hold(live: Live, tree: dict[str, Any], request: TrialRequest, response: TrialResponse) -> None:
    """Hold the law for one triple."""
    ruleset = loads(json.dumps(tree).encode(), "rules.yaml").ruleset
    response = TrialResponse(response.status, (*response.fields, EMPTY))
    explanation = explain(ruleset, request, response)
    record, fields = live.exchange(ruleset, request, response)
    trial = explanation.trial
    assert record.status == trial.status
    if trial.fault:
        # An answer of the gateway's own: content and Proxy-Status are not a matter of rules.
        assert set(comparable(explanation, trial.fields)) <= set(comparable(explanation, fields))
        return
    assert record.rule == (trial.resolution.rule.name if trial.resolution.rule else "")
    assert record.observed == (trial.resolution.observed.name if trial.resolution.observed else "")
    assert comparable(explanation, fields) == comparable(explanation, trial.fields)


def comparable(explanation: Explanation, fields: Any) -> list[tuple[bytes, bytes]]:
    """Take out of fields what differs each time: the clock's date."""
    dated = any(name.lower() == b"date" for name, _ in explanation.response.fields) and not (
        explanation.trial.fault
    )
    now = b"" if dated else next(value for name, value in fields if name.lower() == b"date")
    return [(name, SOME_DATE if value == now else value) for name, value in fields]


@pytest.mark.parametrize(
    "cases", [400, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_explain_says_what_the_gateway_does(live, cases):
    """Same rule, same bytes of fields in the same order; the slow run has other cases each time."""
    counted = {"cases": 0, "matched": 0, "faults": 0}

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategies.rules_files(), strategies.requests(), strategies.responses())
    def law(tree: dict[str, Any], request: TrialRequest, response: TrialResponse) -> None:
        hold(live, tree, request, response)
        counted["cases"] += 1
        counted["matched"] += bool(live.records[0].rule)
        counted["faults"] += live.records[0].status == 502

    law()
    print(counted)
    assert counted["cases"] >= cases
    assert counted["matched"] > cases // 10
