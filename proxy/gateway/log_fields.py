"""The fields of the access log: what each says of a record, as JSON. The renderer of a choice of them is made once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from proxy.gateway.log_target import quoted_within
from proxy.gateway.record import Record
from proxy.message.masking import masked
from proxy.message.target import PERCENT_ENCODE, readable
from proxy.settings import LOG_FIELDS, IPNetwork

# With these bounds a line of all fields fits into PIPE_BUF (4096 bytes), so that workers that share a pipe do not tear it.
MAX_TARGET: Final = 2048
MAX_DETAIL: Final = 256
MAX_METHOD: Final = 64
_MAX_CHAIN: Final = 512  # bytes; twenty proxies
_MAX_KNOWN: Final = 256  # texts that are remembered of a field
_MAX_KNOWN_SIZE: Final = 512  # of each
_MAX_CLIENTS: Final = 4096

# RFC 9110 names none of these; W3C Trace Context section 3.2: version, trace id, parent id, flags.
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")

_THREE_DIGITS: Final = tuple([f"{number:03d}" for number in range(1000)])

Renderer = Callable[[str, Record], str]


def _trace_id(traceparent: bytes) -> str:
    match = _TRACEPARENT.fullmatch(traceparent)
    return "null" if match is None else _value(match[1])


def _value(value: bytes | None, limit: int = 128) -> str:
    return quoted_within(readable(value), limit) if value else "null"


def _referer(value: bytes | None) -> str:
    """Leave out query and fragment, which may hold secrets, and hide others."""
    return _value(masked((value or b"").partition(b"?")[0].partition(b"#")[0]), 256)


class _Known(dict[Any, str]):
    """Remembers how a field is rendered, its name included: rules, browsers, hosts and pages repeat.

    Args:
        lead: what stands before the value.
        render: renders a value that is not known.
    """

    def __init__(self, lead: str, render: Callable[[Any], str]) -> None:
        super().__init__()
        self._lead = lead
        self._render = render

    def __missing__(self, value: Any) -> str:  # noqa: ANN401 - what a record or a request has
        text = self._lead + self._render(value)
        if isinstance(value, int) or len(value or "") <= _MAX_KNOWN_SIZE:
            if len(self) >= _MAX_KNOWN:
                self.clear()
            self[value] = text
        return text


class Clients:
    """Finds the address of the real client behind trusted proxies.

    Args:
        trusted: networks of proxies whose `X-Forwarded-For` is believed.
    """

    def __init__(self, trusted: Iterable[IPNetwork]) -> None:
        self._trusted = tuple(trusted)
        self._known: dict[tuple[str, bytes], str] = {}

    def of(self, peer: str, lines: Sequence[tuple[int, bytes]]) -> str:
        """Return the client's address.

        Args:
            peer: the address of the connection; empty for a Unix socket, which is trusted.
            lines: of `X-Forwarded-For`, each with its place.
        """
        # Trusted proxies write at the end.
        chain = b",".join([value for _, value in lines])[-_MAX_CHAIN:]
        found = self._known.get((peer, chain))
        if found is None:
            if len(self._known) >= _MAX_CLIENTS:
                self._known.clear()
            found = self._known[peer, chain] = self._find(peer, chain)
        return found

    def _find(self, peer: str, chain: bytes) -> str:
        """Go back along the chain as long as who speaks is trusted."""
        client = peer
        for member in reversed(chain.split(b",")):
            if client and not self._is_trusted(client):
                break
            address = _address(member)
            if not address:
                break
            client = address
        return client

    def _is_trusted(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        return any(address in network for network in self._trusted)


def _address(member: bytes) -> str:
    """Read a member of `X-Forwarded-For`: an address, some proxies add a port."""
    text = member.strip().decode("ascii", "replace")
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        # Without its zone, RFC 4007: that means something to who wrote it alone, and `ipaddress` takes any text for one.
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


# Expressions of a record `r`, its duration `d` in microseconds, and the addresses `c` of the client and `p` of the peer.
_DIFFERENT: Final = {
    "ts": '"{ts}"',
    "target": "{value(r.target, MAX_TARGET)}",
    "duration_s": '{"0" if d < 1000000 else d // 1000000}.{DIGITS[d // 1000 % 1000]}{DIGITS[d % 1000]}',
    "upstream_s": (
        '{f"{u // 1000000}.{DIGITS[u // 1000 % 1000]}{DIGITS[u % 1000]}" '
        'if (u := int(r.upstream_s * 1e6 + 0.5)) else "null"}'
    ),
    "bytes_in": '{r.bytes_in or "0"}',
    "bytes_out": "{r.bytes_out}",
    "client": '{quoted(c) if c else "null"}',
    "peer": "{p}",
    "request_id": (
        '{value(r.request_id) if r.request_id else trace_id(r.traceparent) if r.traceparent else "null"}'
    ),
    "error": '{quoted(r.failure.reason) if r.failure else "null"}',
    "detail": '{value(r.failure.detail.encode(), MAX_DETAIL) if r.failure else "null"}',
}
"""By the name of a field that differs from line to line, how an f-string renders it."""
_WHERE_NOTHING_FAILED: Final = {
    "target": "{t if len(t := quoted(r.target.decode(*UTF_8))) <= MAX_TARGET else value(r.target, MAX_TARGET)}",
    "client": '"{c}"',
    "error": "null",
    "detail": "null",
}
"""Likewise of a request that did not fail and whose client has an address, which one on a Unix socket has not."""


def _text(text: str) -> str:
    return quoted(text[:MAX_METHOD]) if text else "null"


def _status(status: int) -> str:
    return str(status or "null")


_REPEATED: Final[dict[str, tuple[str, Callable[[Any], str]]]] = {
    "method": ("r.method", _text),
    "status": ("r.status", _status),
    "upstream_status": ("r.upstream_status", _status),
    "host": ("r.host", lambda value: _value(value, 200)),
    "user_agent": ("r.user_agent", lambda value: _value(value, 256)),
    "referer": ("r.referer", _referer),
    "rule": ("r.rule", _text),
    "policy": ("r.policy", _text),
    "observed": ("r.observed", _text),
    "changed": ("r.changed", str),
}
"""By the name of a field whose values repeat, what it renders, and how."""


def json_renderer(fields: Sequence[str] = LOG_FIELDS, trusted: Iterable[IPNetwork] = ()) -> Renderer:
    """Make the function that renders the chosen fields of a record, in their order, as a line of JSON.

    It is a function made for them: a call for each field, or `json.dumps`, costs two or three times as much.
    """
    names: dict[str, Any] = {
        "quoted": quoted,
        "UTF_8": ("utf-8", PERCENT_ENCODE),
        "client_of": Clients(trusted).of,
        "trace_id": _trace_id,
        "value": _value,
        "DIGITS": _THREE_DIGITS,
        "MAX_TARGET": MAX_TARGET,
        "MAX_DETAIL": MAX_DETAIL,
    }
    line = any_line = ""
    for name in fields:
        lead = f',"{name}":' if line else f'{{"{name}":'
        if name in _REPEATED:
            expression, render = _REPEATED[name]
            names[name] = _Known(lead, render)
            expression = f"{{{name}[{expression}]}}"
            line += expression
            any_line += expression
        else:
            lead = lead.replace("{", "{{")
            line += lead + _WHERE_NOTHING_FAILED.get(name, _DIFFERENT[name])
            any_line += lead + _DIFFERENT[name]
    source = f"""
def render(ts, r):
    c, p = r.client, "null"
    if r.forwarded_for:
        c = client_of(c, r.forwarded_for)
        if c != r.client and r.client:
            p = quoted(r.client)
    d = int(r.duration_s * 1e6 + 0.5)
    if c and r.failure is None:
        return f'''{line}}}}}\\n'''
    return f'''{any_line}}}}}\\n'''
"""
    exec(source, names)  # noqa: S102 - made of the constants above
    made: Renderer = names["render"]
    return made
