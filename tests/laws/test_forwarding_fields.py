"""The law of forwarding fields: an app hears of clients only what its proxies say, in whatever spelling it is told."""

from __future__ import annotations

import random

from proxy.message.fields import NEVER_HOP_BY_HOP
from proxy.message.forwarding import FAMILY, HOST_FIELDS, SCHEME_FIELDS, Peer, is_forwarding_field
from proxy.message.request import RequestTable, render_request
from tests.laws.holding import at_both_sizes, hold

CLIENT = Peer(b"203.0.113.7")
EDGE = Peer(b"10.0.0.1", is_trusted=True)
OURS = {
    b"X_FORWARDED_FOR": b"203.0.113.7",
    b"X_FORWARDED_PROTO": b"http",
    b"X_FORWARDED_HOST": b"app",
}
OTHERS = (b"Accept", b"Cookie", b"X-Forward", b"X-Real", b"If-Match", b"Upgrade", b"X-Own")


ALL_NAMES = (
    *sorted(FAMILY),
    *(b"x-forwarded-port", b"x-forwarded-user", b"x-forwarded-", b"x-forwarded-for-x"),
    *OTHERS,
)
VALUES = (
    b"",
    b"on",
    b"https",
    b"http",
    b"192.0.2.1",
    b"a, b",
    b"for=1;proto=https",
    b"for=1;host=x",
    b"evil",
)
Fields = list[tuple[bytes, bytes]]


@at_both_sizes
def test_of_a_client_no_spelling_reaches_the_app(examples: int) -> None:
    """WSGI reads `_` as `-`, and names in any case: each field of the family is there once, and is ours."""
    hold(tells_the_app_of_a_client, examples)


@at_both_sizes
def test_what_a_trusted_peer_says_stays_and_is_not_contradicted(examples: int) -> None:
    """Byte for byte and in order, its chain aside, which goes on; a scheme and a host are added only to silence."""
    hold(passes_on_what_an_edge_says, examples)
    assert NEVER_HOP_BY_HOP.isdisjoint(FAMILY)


def some_name(chance: random.Random) -> bytes:
    """A name of the family, or one that begins like it, or another; in any case and with `_` for some `-`."""
    name = chance.choice(ALL_NAMES)
    capitals = chance.getrandbits(len(name))
    underscores = chance.getrandbits(len(name)) if chance.random() < 0.5 else 0
    return bytes(
        (ord("_") if underscores >> place & 1 else byte)
        if byte == ord("-")
        else byte ^ (capitals >> place & 1) << 5
        for place, byte in enumerate(name)
    )


def some_fields(chance: random.Random) -> Fields:
    return [(some_name(chance), chance.choice(VALUES)) for _ in range(chance.randrange(7))]


def some_options(chance: random.Random) -> bytes:
    return b", ".join(some_name(chance) for _ in range(chance.randrange(4)))


def seen(peer: Peer, mode: str, underscores: str, fields: Fields, options: bytes) -> Fields:
    """The fields that reach the app after `Host`."""
    lines = [b"GET / HTTP/1.1", b"Host: app", *[name + b": " + value for name, value in fields]]
    head = b"\r\n".join([*lines, b"Connection: close, " + options, b"", b""])
    table = RequestTable((), underscores, b"upstream", mode)  # type: ignore[arg-type] - drawn from what it allows
    data, _ = render_request(table.read(head, peer), strips_conditionals=False)
    rendered = [line.partition(b": ") for line in data[:-4].split(b"\r\n")[2:]]
    return [(name, value) for name, _, value in rendered]


def tells_the_app_of_a_client(chance: random.Random) -> None:
    mode, underscores = chance.choice(("append", "replace")), chance.choice(("drop", "keep"))
    fields, options = some_fields(chance), some_options(chance)
    found: dict[bytes, list[bytes]] = {}
    for name, value in seen(CLIENT, mode, underscores, fields, options):
        found.setdefault(name.upper().replace(b"-", b"_"), []).append(value)
    family = {
        key: values for key, values in found.items() if is_forwarding_field(key.lower().replace(b"_", b"-"))
    }
    assert family == {key: [value] for key, value in OURS.items()}


def passes_on_what_an_edge_says(chance: random.Random) -> None:
    fields, options = some_fields(chance), some_options(chance)
    found = seen(EDGE, "append", "keep", fields, options)
    theirs = [field for field in fields if b"_" not in field[0] and field[0].lower() in FAMILY]
    chain = [value for name, value in theirs if name.lower() == b"x-forwarded-for"]
    kept = [field for field in theirs if field[0].lower() != b"x-forwarded-for"]
    family = [field for field in found if field[0].lower() in FAMILY]
    joined = b", ".join(chain)
    added = [(b"X-Forwarded-For", joined + b", 10.0.0.1" if joined else b"10.0.0.1")]
    forwarded = b", ".join(value for name, value in kept if name.lower() == b"forwarded")
    said = {name.lower() for name, _ in kept}
    if b"proto=" not in forwarded and said.isdisjoint(SCHEME_FIELDS):
        added.append((b"X-Forwarded-Proto", b"http"))
    if b"host=" not in forwarded and said.isdisjoint(HOST_FIELDS):
        added.append((b"X-Forwarded-Host", b"app"))
    assert family == [*kept, *added]
