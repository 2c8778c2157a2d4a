"""The fields of the access log: what each says of a record, as JSON. The renderer of a choice of them is made once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring_ascii as quoted
from types import SimpleNamespace
from typing import Any, Final

from proxy.gateway.log_target import quoted_within
from proxy.gateway.record import Record
from proxy.message.request import RequestHead
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

_MADE_ID: Final = b"X-Request-Id: "

Renderer = Callable[[str, Record], str]


def _other_id(head: RequestHead | None) -> str:
    """Render the id of a request that came without `X-Request-Id`: the one that was made for it, or its trace's."""
    if head is None:
        return "null"
    places = head.noted.get(b"traceparent")
    if places is not None:
        match = _TRACEPARENT.fullmatch(places[0][1])
        return "null" if match is None else _value(match[1])
    last = head.added[-1] if head.added else b""
    return _value(last[len(_MADE_ID) :]) if last.startswith(_MADE_ID) else "null"


class _Known(dict[Any, str]):
    """Remembers how values are rendered: rules, browsers, hosts and pages repeat.

    Args:
        render: renders a value that is not known.
    """

    def __init__(self, render: Callable[[Any], str]) -> None:
        super().__init__()
        self._render = render

    def __missing__(self, value: Any) -> str:  # noqa: ANN401 - text or bytes, or nothing
        text = self._render(value)
        if len(value or "") <= _MAX_KNOWN_SIZE:
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
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


# Of each field how `%` formats it, and the expression of a record `r`, of the fields `n` that were noted in its request, and
# of the client's address `c`.
_PARTS: Final = {
    "ts": ('"%s"', "ts"),
    "method": ("%s", "text[r.method]"),
    "target": (
        "%s",
        "t if len(t := quoted(r.target.decode(*UTF_8))) <= MAX_TARGET else value(r.target, MAX_TARGET)",
    ),
    "status": ("%s", 'r.status or "null"'),
    "upstream_status": ("%s", 'r.upstream_status or "null"'),
    "duration_s": ("%.6f", "r.duration_s"),
    "upstream_s": ("%s", '"%.6f" % r.upstream_s if r.upstream_s else "null"'),
    "bytes_in": ("%d", "r.bytes_in"),
    "bytes_out": ("%d", "r.bytes_out"),
    "client": ('"%s"', "c"),
    "peer": ("%s", "p"),
    "host": ("%s", "host[r.host]"),
    "user_agent": ("%s", 'user_agent[v[0][1]] if (v := n.get(b"user-agent")) else "null"'),
    "referer": ("%s", 'referer[v[0][1]] if (v := n.get(b"referer")) else "null"'),
    "request_id": (
        "%s",
        (
            'value(v[0][1]) if (v := n.get(b"x-request-id")) '
            'else request_id(r.request) if makes_ids or b"traceparent" in n else "null"'
        ),
    ),
    "rule": ("%s", "text[r.rule]"),
    "policy": ("%s", "text[r.policy]"),
    "observed": ("%s", "text[r.observed]"),
    "changed": ("%d", "r.changed"),
    "error": ("%s", 'quoted(r.failure.reason) if r.failure else "null"'),
    "detail": ("%s", 'value(r.failure.detail.encode(), MAX_DETAIL) if r.failure else "null"'),
}


def json_renderer(
    fields: Sequence[str] = LOG_FIELDS, trusted: Iterable[IPNetwork] = (), *, makes_ids: bool = False
) -> Renderer:
    """Make the function that renders the chosen fields of a record, in their order, as a line of JSON.

    It is a function made for them: a call for each field, or `json.dumps`, costs two or three times as much.
    """
    line = ",".join([f'"{name}":{_PARTS[name][0]}' for name in fields])
    values = ", ".join([f"({_PARTS[name][1]})" for name in fields])
    source = f"""
def render(ts, r):
    n = (r.request or nothing).noted
    v = n.get(b"x-forwarded-for")
    if v is None:
        c = r.client
        p = "null"
    else:
        c = client_of(r.client, v)
        p = "null" if c == r.client else quoted(r.client)
    return line % ({values},)
"""
    names: dict[str, Any] = {
        "line": f"{{{line}}}\n",
        "quoted": quoted,
        "UTF_8": ("utf-8", PERCENT_ENCODE),
        "nothing": SimpleNamespace(noted={}),
        "client_of": Clients(trusted).of,
        "request_id": _other_id,
        "makes_ids": makes_ids,
        "value": _value,
        "text": _Known(lambda text: quoted(text[:MAX_METHOD]) if text else "null"),
        "host": _Known(lambda value: _value(value or b"", 200)),
        "user_agent": _Known(lambda value: _value(value, 256)),
        "referer": _Known(_referer),
        "MAX_TARGET": MAX_TARGET,
        "MAX_DETAIL": MAX_DETAIL,
    }
    exec(source, names)  # noqa: S102 - made of the constants above
    render: Renderer = names["render"]
    return render


def _value(value: bytes, limit: int = 128) -> str:
    return quoted_within(readable(value), limit) if value else "null"


def _referer(value: bytes) -> str:
    """Leave out query and fragment, which may hold secrets."""
    return _value(value.partition(b"?")[0].partition(b"#")[0], 256)
