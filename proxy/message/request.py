"""A request's head: what came in, what rules and framing read in it, and what the upstream gets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal
from uuid import uuid4

from proxy.message import entity_tags, methods
from proxy.message.errors import MalformedHeadError, MethodNotForwardedError
from proxy.message.field_index import (
    COMMON_OPTIONS,
    UNDERSCORED,
    LineTable,
    Noted,
    drop,
    drop_named_in_connection,
    render_lines,
)
from proxy.message.fields import HOP_BY_HOP, NEVER_HOP_BY_HOP
from proxy.message.forwarding import (
    FAMILY,
    PATH_FIELDS,
    PREFIX,
    Forwarding,
    Peer,
    Via,
    forwarded_upgrade,
    forwarding_lines,
    is_forwarding_field,
    via_lines,
)
from proxy.message.framing import request_length
from proxy.message.methods import BY_BYTES, RETRIEVALS, parse_method
from proxy.message.syntax import HeadParser
from proxy.message.target import is_host, parse_target

Underscores = Literal["drop", "keep"]

NOBODY: Final = Peer()
"""A peer that is not trusted and of which nothing can be said."""

_VALIDATION: Final = (b"if-none-match", b"if-modified-since")
_CONDITIONALS: Final = frozenset((*_VALIDATION, b"if-range"))
_READ_HERE: Final = (
    *_VALIDATION,
    *(b"host", b"content-length", b"if-range", b"range", b"if-match", b"if", b"authorization", b"expect"),
)
_IDS: Final = frozenset((b"x-request-id", b"traceparent"))
_LOGGED: Final = (*_IDS, b"user-agent", b"referer")
# Fields with entity tags that go back to the app; `If` is WebDAV's, RFC 4918 section 10.4.
_TAGGED_ANYWHERE: Final = (b"if-match", b"if")
_TAGGED: Final = frozenset((*_TAGGED_ANYWHERE, b"if-none-match"))
# gunicorn takes these from a trusted peer as the CGI variables that move the path (`forwarder_headers`).
_PATH_ALIASES: Final = frozenset((b"script-name", b"path-info"))
# A client must not be able to remove, with a `Connection` option, what a trusted proxy said about it.
_STAYS: Final = NEVER_HOP_BY_HOP | FAMILY
_FRAMING: Final = (b"connection", b"transfer-encoding", b"upgrade", b"te", b"trailer")

# A client makes the names up: so much of so many is remembered.
_MAX_DROPPED_NAME: Final = 64
_MAX_DROPPED_NAMES: Final = 64

FieldLines = bytes | tuple[bytes, ...] | None
"""A field as it came: one line, several lines in order (apps differ on which counts), or `None` when it is absent."""


class RequestHead:
    """A request's head as it came in, checked.

    Attributes:
        method: in upper case, mostly one of `METHODS`.
        target: what is forwarded, in bytes as sent.
        minor: 0 for an HTTP/1.0 client, 1 for HTTP/1.1.
        host: the authority of absolute-form or `Host`; `None` for an HTTP/1.0 client that names none.
        lines: one a field, end-to-end fields only, in order and spelling as sent.
        noted: where the fields stand that are read here or by rules.
        added: lines that the gateway adds of its own: `Host` where none came, forwarding fields, `Via`.
        values: of the fields that rules read, as they reach the app.
        content_length: bytes of content; `None` when it is chunked.
        keep_alive: the client lets its connection serve another request.
        received: its bytes as they came, if a `KeepingTable` read it; else empty.
        upgrade: the protocols asked for, as sent; empty when none may be forwarded.
        distrusted: lines of forwarding fields that were dropped.
        made_id: the `X-Request-Id` among `added`; `None` where none was made.
    """

    # Not a dataclass: mypyc does not compile its constructor, which costs 14,000 of a request's 207,000 machine
    # instructions (with OutgoingHead).
    __slots__ = (
        "added",
        "content_length",
        "distrusted",
        "host",
        "keep_alive",
        "lines",
        "made_id",
        "method",
        "minor",
        "noted",
        "received",
        "target",
        "upgrade",
        "values",
    )

    def __init__(
        self,
        *,
        method: str,
        target: bytes,
        minor: int,
        host: bytes | None,
        lines: list[bytes],
        noted: Noted,
        added: Sequence[bytes],
        values: tuple[FieldLines, ...],
        content_length: int | None,
        keep_alive: bool,
        upgrade: bytes,
        distrusted: int,
        made_id: bytes | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.host = host
        self.lines = lines
        self.noted = noted
        self.added = added
        self.values = values
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.distrusted = distrusted
        self.made_id = made_id
        self.received = b""

    @property
    def matches_any(self) -> bool:
        """Whether it came with `If-None-Match: *`: a cache on the way may answer 304 by any validator."""
        conditions = self.noted.get(b"if-none-match")
        return conditions is not None and any(entity_tags.matches_any(value) for _, value in conditions)


class RequestTable:
    """Reads request heads; made anew for each version of the rules.

    Args:
        read_names: lower-case names of the fields that rules read; `RequestHead.values` follows this order.
        underscores: `keep` lets a field with `_` in its name through unless it aliases one that is read.
        authority: `Host` for an HTTP/1.0 client that sends none.
        forwarding: `append` adds to the forwarding fields of trusted peers and replaces those of others,
            `replace` those of all peers; `off` leaves them alone.
        via: `on` adds a `Via`.
        makes_ids: add an `X-Request-Id` where neither it nor a `traceparent` came.

    Attributes:
        dropped: how many lines were dropped for the `_` in their names, by the beginning of the name in lower case;
            names beyond a bound are counted under the empty name. Whoever reads it clears it.
    """

    __slots__ = (
        "_absent",
        "_adds_forwarding",
        "_authority",
        "_lines_by_trust",
        "_makes_ids",
        "_not_to_alias",
        "_parser",
        "_places",
        "_read_names",
        "_reads_added",
        "_underscores",
        "_via",
        "dropped",
    )

    def __init__(
        self,
        read_names: Iterable[bytes] = (),
        underscores: Underscores = "drop",
        authority: bytes = b"",
        forwarding: Forwarding = "off",
        via: Via = "off",
        *,
        makes_ids: bool = False,
    ) -> None:
        self._authority = authority
        self._parser = HeadParser("request")
        self._read_names = tuple(read_names)
        self._places = {name: place for place, name in enumerate(self._read_names)}
        self._absent: tuple[FieldLines, ...] = (None,) * len(self._read_names)
        self._underscores = underscores
        self._adds_forwarding = forwarding != "off"
        self._via = via_lines(via)
        self._makes_ids = makes_ids
        self.dropped: dict[bytes, int] = {}
        names = (*_READ_HERE, *self._read_names)
        self._not_to_alias = frozenset((*names, *methods.OVERRIDES, *_PATH_ALIASES, *_FRAMING))
        self._reads_added = any(
            name == b"host" or (is_forwarding_field(name) and name not in PATH_FIELDS)
            for name in self._read_names
        ) or (makes_ids and b"x-request-id" in self._read_names)
        noted_names = (*names, *_LOGGED)
        keeping = LineTable((*noted_names, *FAMILY), reads=self._read_names, notes_underscored=True)
        dropping = LineTable(
            [name for name in noted_names if not is_forwarding_field(name)],
            left_out=FAMILY,
            left_out_prefixes=[PREFIX],
            reads=self._read_names,
            notes_underscored=True,
        )
        self._lines_by_trust = (
            keeping if forwarding == "off" else dropping,
            dropping if forwarding == "replace" else keeping,
        )

    def read(self, head: bytes, peer: Peer = NOBODY) -> RequestHead:
        """Parse and check one request head, from the method to the empty line.

        Args:
            peer: who sent it; of one that is not trusted, forwarding fields are dropped.

        Raises:
            MessageError: nothing of it may be forwarded.
        """
        start, section = self._parser.parse(head)
        shape = self._lines_by_trust[peer.is_trusted].shape(section)
        lines, noted = shape.lines(section), shape.note(section)
        method, (target, authority), minor = _request_line(start)
        content_length = request_length(lines, noted, minor)
        options = drop_named_in_connection(lines, noted, _STAYS)
        upgrade = forwarded_upgrade(noted) if b"upgrade" in options and minor == 1 else b""
        if not options <= COMMON_OPTIONS:
            self._refuse_hidden(lines, noted)
        if UNDERSCORED in noted:
            self._drop_aliases(lines, noted)
        host = _host(noted, authority, minor)
        values = self._values(noted, shape.reads) if shape.reads else self._absent
        added: Sequence[bytes] = (via := self._via[minor],)
        if self._adds_forwarding:
            added = forwarding_lines(lines, noted, peer.address, host, via)
        if host is None or b"host" not in noted:
            added = (b"Host: " + (host or self._authority), *added)
        made_id: bytes | None = None
        if self._makes_ids and _IDS.isdisjoint(noted):
            made_id = uuid4().hex.encode()
            added = (*added, b"X-Request-Id: " + made_id)
        if self._reads_added:
            values = self._with_added(values, added)
        return RequestHead(
            method=method,
            target=target,
            minor=minor,
            host=host,
            lines=lines,
            noted=noted,
            added=added,
            values=values,
            content_length=content_length,
            keep_alive=b"close" not in options and (minor == 1 or b"keep-alive" in options),
            upgrade=upgrade,
            distrusted=shape.left_out,
            made_id=made_id,
        )

    def _values(self, noted: Noted, names: Sequence[bytes]) -> tuple[FieldLines, ...]:
        """Collect what came of the fields that rules read."""
        values = list(self._absent)
        for name in names:
            places = noted[name]
            values[self._places[name]] = places[0][1] if len(places) == 1 else _values_of(places)
        return tuple(values)

    def _with_added(self, values: tuple[FieldLines, ...], added: Sequence[bytes]) -> tuple[FieldLines, ...]:
        """Replace what came by what the gateway adds: rules see what the app gets."""
        ours = {}
        for line in added:
            name, _, value = line.partition(b": ")
            ours[name.lower()] = value
        return tuple([ours.get(name, value) for name, value in zip(self._read_names, values, strict=True)])

    def _refuse_hidden(self, lines: list[bytes], noted: Noted) -> None:
        """Refuse a request whose `Connection` names a field that rules read, because the app does not get that field."""
        for name in self._read_names:
            if name not in HOP_BY_HOP and any(not lines[place] for place, _ in noted.get(name, ())):
                raise MalformedHeadError("Connection names a field that rules read")

    def _drop_aliases(self, lines: list[bytes], noted: Noted) -> None:
        """Drop fields with `_`: WSGI reads it as `-`, so such a field would reach the app unseen by the rules."""
        for place, _ in noted[UNDERSCORED]:
            name = lines[place].partition(b":")[0].lower()
            alias = name.replace(b"_", b"-")
            if self._underscores == "drop" or alias in self._not_to_alias or is_forwarding_field(alias):
                lines[place] = b""
                self._note_dropped(name[:_MAX_DROPPED_NAME])

    def _note_dropped(self, name: bytes) -> None:
        dropped = self.dropped
        if name not in dropped and len(dropped) >= _MAX_DROPPED_NAMES:
            name = b""
        dropped[name] = dropped.get(name, 0) + 1


class KeepingTable(RequestTable):
    """Reads request heads and keeps their bytes, for whoever watches what passes."""

    __slots__ = ()

    def read(self, head: bytes, peer: Peer = NOBODY) -> RequestHead:
        request = super().read(head, peer)
        request.received = head
        return request


def render_request(head: RequestHead, *, strips_conditionals: bool) -> tuple[bytes, int]:
    """Render what the upstream gets: the request target byte for byte, framing and hop-by-hop fields anew.

    Args:
        strips_conditionals: take validation preconditions off, so that the app cannot answer 304.

    Returns:
        The bytes, and how many conditional field lines were stripped.
    """
    lines = head.lines
    stripped = 0
    if strips_conditionals and head.method in RETRIEVALS:
        stripped = strip_conditionals(lines, head.noted)
    if not head.noted.keys().isdisjoint(_TAGGED):
        _restore_entity_tags(head)
    lines = [*lines, *head.added]
    if head.content_length is None:
        lines.append(b"Transfer-Encoding: chunked")
    if head.upgrade:
        lines += (b"Connection: Upgrade", b"Upgrade: " + head.upgrade)
    return render_lines(b"%b %b HTTP/1.1" % (head.method.encode(), head.target), lines), stripped


def has_conditionals(head: RequestHead) -> bool:
    """Tell whether a request has a condition that `strip_conditionals` takes off."""
    return not head.noted.keys().isdisjoint(_CONDITIONALS)


def strip_conditionals(lines: list[bytes], noted: Noted) -> int:
    """Drop the validation preconditions of a GET or HEAD; return how many lines were dropped.

    `Range` is dropped with its `If-Range`: alone it would ask for an unconditional 206 (RFC 9110 section 13.1.5).
    `If-Match` and `If-Unmodified-Since` protect updates and stay.
    """
    if noted.keys().isdisjoint(_CONDITIONALS):
        return 0
    stripped = sum(drop(lines, noted, name) for name in _VALIDATION)
    if b"if-range" in noted:
        stripped += drop(lines, noted, b"if-range") + drop(lines, noted, b"range")
    return stripped


def _values_of(places: Sequence[tuple[int, bytes]]) -> tuple[bytes, ...]:
    return tuple([value for _, value in places])


_PROTOCOLS: Final = {b"HTTP/1.0": 0, b"HTTP/1.1": 1}


def _request_line(line: bytes) -> tuple[str, tuple[bytes, bytes | None], int]:
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _PROTOCOLS:  # noqa: PLR2004 - method, target, version
        raise MalformedHeadError("a request line that is not method, target and HTTP/1.0 or HTTP/1.1")
    method = BY_BYTES.get(parts[0]) or parse_method(parts[0])
    if method == "CONNECT":
        raise MethodNotForwardedError("CONNECT is for forward proxies")
    return method, parse_target(method, parts[1]), _PROTOCOLS[parts[2]]


def _host(noted: Noted, authority: bytes | None, minor: int) -> bytes | None:
    hosts = noted.get(b"host", ())
    host = hosts[0][1] if hosts else None
    if len(hosts) > 1 or (host is None and minor == 1) or (host is not None and not is_host(host)):
        raise MalformedHeadError("missing, double or malformed Host")
    if authority is None:
        return host
    # RFC 9112 section 3.2.2 says that the target wins, but the app's parser may not know that.
    if not is_host(authority) or (host is not None and host.lower() != authority.lower()):
        raise MalformedHeadError("Host and request target name different hosts")
    return authority


def _restore_entity_tags(head: RequestHead) -> None:
    noted = head.noted
    is_safe = head.method in RETRIEVALS
    for name in _TAGGED_ANYWHERE if is_safe else _TAGGED:
        for place, value in noted.get(name, ()):
            restored = entity_tags.unmark(value)
            if restored is not value and head.lines[place]:  # `Connection` may have named it
                head.lines[place] = head.lines[place].partition(b":")[0] + b": " + restored
