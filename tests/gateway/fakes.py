"""Stand-ins for what surrounds an exchange: sides and a pool that write down what they are told, a transport, a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.gateway.clock import Clock
from proxy.gateway.context import Context
from proxy.gateway.failures import Failure
from proxy.gateway.record import Record
from proxy.gateway.recorder import Recorder
from proxy.message.framing import Framing
from proxy.message.request import RequestHead, RequestTable
from proxy.message.response import OutgoingHead, ResponseHead, ResponseTable
from proxy.rules.engine.matching import Ruleset
from proxy.settings import Settings, Upstream
from proxy.stats import Stats

NOW_S = 1000.0


def broken(*_: object, **__: object) -> Any:
    """Stand where something is called that fails by a mistake of this program."""
    raise RuntimeError("broken")


class Log:
    """An access log that keeps the records."""

    dropped = 0

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def flush(self) -> None: ...


class Loop:
    """Runs what is called soon when it is told to."""

    def __init__(self) -> None:
        self._ready: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._ready.append(callback)

    def call_later(self, _delay_s: float, _callback: Callable[[], object]) -> Any:
        raise AssertionError("no clock ticks here")

    def run(self) -> None:
        while self._ready:
            self._ready.pop(0)()


class Surroundings:
    """What an exchange or a connection needs besides the other side.

    Attributes:
        told: what sides and pool were told, in order.
    """

    def __init__(self, rules: Any = (), **settings: Any) -> None:
        self.told: list[str] = []
        self.log = Log()
        self.loop = Loop()
        made = Settings(upstream=Upstream.parse("http://app"), **settings)
        clock = Clock(self.loop, lambda: None)  # type: ignore[arg-type]
        clock.now_s = NOW_S
        recorder = Recorder(Stats(), self.log)  # type: ignore[arg-type]
        self.context = Context(made, Ruleset(rules), recorder, clock, self.loop)  # type: ignore[arg-type]

    @property
    def stats(self) -> Stats:
        return self.context.stats

    @property
    def record(self) -> Record:
        """The only record there is."""
        (record,) = self.log.records
        return record

    def take(self) -> list[str]:
        """Return what was told since, and forget it."""
        told, self.told[:] = list(self.told), []
        return told


class FakeClient:
    """A client's side that writes down what it is told."""

    def __init__(self, told: list[str]) -> None:
        self._told = told
        self.address = "192.0.2.1"
        self.deadline_s = 0.0
        self.is_congested = False
        self.outgoing: OutgoingHead | None = None
        self.pinned: Any = None
        self.reasons: set[str] = set()
        self.has_unsent = False
        self.changed = 3
        self.was_cached = False
        self.tunnel: Any = None

    @property
    def patience_s(self) -> float:
        """How long the last one who said so wants to wait."""
        return self.deadline_s - NOW_S

    def send_informational(self, response: ResponseHead) -> None:
        self._told.append(f"client: informational {response.status}")

    def send_head(self, response: ResponseHead, _treatment: object) -> OutgoingHead:
        self._told.append(f"client: head {response.status}")
        is_chunked = response.framing >= Framing.CHUNKED
        return OutgoingHead(
            data=b"",
            is_chunked=is_chunked,
            keep_alive=True,
            changed=self.changed,
            was_cached=self.was_cached,
        )

    def send_content(self, data: bytes) -> None:
        self._told.append(f"client: content {data.decode()}")

    def send_large_content(self, data: bytes) -> None:
        self._told.append(f"client: {len(data)} bytes")

    def end(self) -> None:
        self._told.append("client: end")

    def answer(self, failure: Failure, vary: tuple[str, ...]) -> tuple[bytes, bytes]:
        self._told.append(f"client: answer {failure.reason}" + (f" vary {','.join(vary)}" if vary else ""))
        return b"", b"17 bytes of text\n"

    def reset(self) -> None:
        self._told.append("client: reset")

    def close(self) -> None:
        self._told.append("client: close")

    def half_close(self) -> bool:
        self._told.append("client: half-close")
        return True

    def room(self) -> int:
        return 0 if self.has_unsent else 1_000_000

    def has_unsent_content(self) -> bool:
        return self.has_unsent

    def send_switch(self, response: ResponseHead, asked_for: bytes) -> None:
        self._told.append(f"client: switch {response.status} for {asked_for.decode()}")

    def switch_protocols(self, tunnel: Any) -> None:
        self._told.append("client: tunnel")
        self.tunnel = tunnel

    def send_bytes(self, data: bytes) -> None:
        self._told.append(f"client: bytes {data.decode('latin-1')}")

    def pause_reading(self, reason: str) -> None:
        self._told.append(f"client: pause {reason}")
        self.reasons.add(reason)

    def resume_reading(self, reason: str) -> None:
        self._told.append(f"client: resume {reason}")
        self.reasons.discard(reason)

    def is_paused_by(self, reason: str) -> bool:
        return reason in self.reasons

    def pin(self, upstream: Any) -> None:
        self._told.append("client: pin")
        self.pinned = upstream


class FakeUpstream:
    """An upstream's side that writes down what it is told."""

    def __init__(self, told: list[str], name: str = "upstream") -> None:
        self._told = told
        self._name = name
        self.may_rest = True

    def send_head(self, _exchange: object, head: RequestHead, *, strips: bool) -> int:
        self._told.append(f"{self._name}: {head.method} {head.target.decode()}{' stripped' * strips}")
        return 2 if strips else 0

    def send_content(self, data: bytes) -> None:
        self._told.append(f"{self._name}: content {data.decode()}")

    def end(self) -> None:
        self._told.append(f"{self._name}: end")

    def abort(self) -> None:
        self._told.append(f"{self._name}: abort")
        self.may_rest = False

    def close(self) -> None:
        self._told.append(f"{self._name}: close")

    def half_close(self) -> bool:
        self._told.append(f"{self._name}: half-close")
        return True

    def pause_reading(self) -> None:
        self._told.append(f"{self._name}: pause")

    def resume_reading(self) -> None:
        self._told.append(f"{self._name}: resume")

    def switch_protocols(self, _tunnel: object) -> None:
        self._told.append(f"{self._name}: tunnel")

    def send_bytes(self, data: bytes) -> None:
        self._told.append(f"{self._name}: bytes {data.decode('latin-1')}")


class FakePool:
    """Lends the connections that it is given, and then lets everybody wait."""

    def __init__(self, told: list[str], *resting: FakeUpstream) -> None:
        self._told = told
        self._resting = list(resting)

    def take(self, *, must_be_fresh: bool) -> FakeUpstream | None:
        self._told.append("pool: take a fresh one" if must_be_fresh else "pool: take")
        return self._resting.pop() if self._resting else None

    def connect(self, _waiter: object) -> FakePool:
        self._told.append("pool: connect")
        return self

    def cancel(self) -> None:
        self._told.append("pool: cancel")


def request(start: bytes = b"GET /a HTTP/1.1", *fields: bytes) -> RequestHead:
    """Read a request's head."""
    return RequestTable().read(b"\r\n".join([start, b"Host: a", *fields, b"", b""]))


def response(start: bytes = b"200 OK", *fields: bytes, method: str = "GET") -> ResponseHead:
    """Read a response's head."""
    head = b"\r\n".join([b"HTTP/1.1 " + start, *fields, b"", b""])
    return ResponseTable().read(head, method)
