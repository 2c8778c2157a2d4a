"""The cases' own words: a gateway that is asked and what it replies, rules and responses in one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.audit.assess import CacheKind, assess
from tests.support.gateway import Bench
from tests.support.peer import ask, request
from tests.support.strict_reader import Message, read_responses

CACHE_CONTROL = {
    "classic": "no-store, no-cache, must-revalidate, post-check=0, pre-check=0",
    "strict": "no-store, no-cache, must-revalidate, max-age=0, private",
    "revalidate": "no-cache, must-revalidate, max-age=0, private",
}
EXPIRED = "Thu, 01 Dec 1994 16:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, strictly read, its fields as text.

    Attributes:
        raw: everything that was received.
    """

    message: Message
    raw: bytes

    @property
    def status(self) -> int:
        return self.message.status

    @property
    def reason(self) -> str:
        return self.message.start.decode("latin-1").split(" ", 2)[2]

    @property
    def content(self) -> bytes:
        return self.message.content

    @property
    def is_complete(self) -> bool:
        """Whether the content ended as its framing says."""
        return self.message.is_complete is not False

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names in lower case, in order, duplicates kept."""
        return [(name.decode().lower(), value.decode("latin-1")) for name, value in self.message.fields]

    def values(self, name: str) -> list[str]:
        """All lines of a field."""
        return [value for field_name, value in self.fields if field_name == name]

    def value(self, name: str) -> str | None:
        """The only line of a field; `None` if there is none."""
        values = self.values(name)
        assert len(values) <= 1, f"{len(values)} lines of {name}: {values}"
        return values[0] if values else None

    def is_enforced(self, policy: str = "strict") -> bool:
        """Whether exactly the policy's Cache-Control is there; and if so, that no cache may store it."""
        is_enforced = self.values("cache-control") == [CACHE_CONTROL[policy]]
        assert not (is_enforced and policy != "revalidate" and self.may_be_kept()), self.raw
        return is_enforced

    def may_be_kept(self, method: str = "GET") -> bool:
        """Whether some cache may store it, by RFC 9111."""
        caches: tuple[CacheKind, ...] = ("private", "shared")
        return any(
            assess(method, self.status, (), self.message.fields, cache=cache, received_at_s=0).may_store
            for cache in caches
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A gateway that is asked one thing at a time."""

    bench: Bench

    async def send(self, raw: bytes) -> Reply:
        """Send bytes on a connection of their own and read until it closes."""
        answer = await ask(self.bench.address, raw)
        method = raw.partition(b" ")[0].decode("latin-1")
        return Reply(read_responses(answer.data, iter([method]))[-1], answer.data)

    async def ask(self, target: str | bytes, *lines: str, method: str = "GET", content: bytes = b"") -> Reply:
        """Send a request and read the response."""
        return await self.send(request(target, *lines, "Connection: close", method=method, content=content))


def response(*lines: str, status: str = "200 OK", content: bytes = b"hello") -> bytes:
    """Make a response with a Content-Length, its fields in the order given."""
    fields = "".join(f"{line}\r\n" for line in (*lines, f"Content-Length: {len(content)}"))
    return f"HTTP/1.1 {status}\r\n".encode() + fields.encode("latin-1") + b"\r\n" + content


def field_lines(received: bytes) -> list[str]:
    """The field lines of a request head as the upstream received it."""
    return received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]


def field_names(received: bytes) -> list[str]:
    """The field names of it, lower case."""
    return [line.partition(":")[0].lower() for line in field_lines(received)]


def rules(*entries: str) -> str:
    """Make a rules file of rules, each a YAML mapping in flow style."""
    return "\n".join(("version: 1", "rules:", *(f"  - {entry}" for entry in entries))) + "\n"


def names(values: Iterable[str]) -> list[str]:
    """Members of `Vary` lines, lower case, sorted."""
    return sorted(member.strip().lower() for value in values for member in value.split(","))
