"""The law of forwarding fields: an app hears of clients only what its proxies say, in whatever spelling it is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.message.fields import NEVER_HOP_BY_HOP
from proxy.message.forwarding import FAMILY, HOST_FIELDS, SCHEME_FIELDS, Peer, is_forwarding_field
from proxy.message.request import RequestTable, render_request

CLIENT = Peer(b"203.0.113.7")
EDGE = Peer(b"10.0.0.1", is_trusted=True)
OURS = {
    b"X_FORWARDED_FOR": b"203.0.113.7",
    b"X_FORWARDED_PROTO": b"http",
    b"X_FORWARDED_HOST": b"app",
}
OTHERS = (b"Accept", b"Cookie", b"X-Forward", b"X-Real", b"If-Match", b"Upgrade", b"X-Own")


@st.composite
def names(draw: st.DrawFn) -> bytes:
    """A name of the family, or one that begins like it, or another; in any case and with `_` for some `-`."""
    name = draw(
        st.sampled_from(sorted(FAMILY))
        | st.sampled_from([b"x-forwarded-port", b"x-forwarded-user", b"x-forwarded-", b"x-forwarded-for-x"])
        | st.sampled_from(OTHERS)
    )
    spelt = bytes(
        draw(st.sampled_from([letter, letter ^ 0x20])) if chr(letter).isalpha() else letter for letter in name
    )
    if draw(st.booleans()):
        return spelt
    return bytes(draw(st.sampled_from(b"-_")) if letter == ord("-") else letter for letter in spelt)


VALUES = st.sampled_from(
    [b"", b"on", b"https", b"http", b"192.0.2.1", b"a, b", b"for=1;proto=https", b"for=1;host=x", b"evil"]
)
FIELDS = st.lists(st.tuples(names(), VALUES), max_size=6)
OPTIONS = st.lists(names(), max_size=3).map(b", ".join)


def seen(
    peer: Peer, mode: str, underscores: str, fields: list[tuple[bytes, bytes]], options: bytes
) -> list[tuple[bytes, bytes]]:
    """The fields that reach the app after `Host`."""
    lines = [b"GET / HTTP/1.1", b"Host: app", *[name + b": " + value for name, value in fields]]
    head = b"\r\n".join([*lines, b"Connection: close, " + options, b"", b""])
    table = RequestTable((), underscores, b"upstream", mode)  # type: ignore[arg-type] - drawn from what it allows
    data, _ = render_request(table.read(head, peer), strips_conditionals=False)
    rendered = [line.partition(b": ") for line in data[:-4].split(b"\r\n")[2:]]
    return [(name, value) for name, _, value in rendered]


@given(
    fields=FIELDS,
    options=OPTIONS,
    underscores=st.sampled_from(["drop", "keep"]),
    how=st.sampled_from([(CLIENT, "append"), (CLIENT, "replace")]),
)
def test_of_a_client_no_spelling_reaches_the_app(
    fields: list[tuple[bytes, bytes]], options: bytes, underscores: str, how: tuple[Peer, str]
) -> None:
    """WSGI reads `_` as `-`, and names in any case: each field of the family is there once, and is ours."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in seen(*how, underscores, fields, options):
        found.setdefault(name.upper().replace(b"-", b"_"), []).append(value)
    family = {
        key: values for key, values in found.items() if is_forwarding_field(key.lower().replace(b"_", b"-"))
    }
    assert family == {key: [value] for key, value in OURS.items()}


@given(fields=FIELDS, options=OPTIONS)
def test_what_a_trusted_peer_says_stays_and_is_not_contradicted(
    fields: list[tuple[bytes, bytes]], options: bytes
) -> None:
    """Byte for byte and in order, its chain aside, which goes on; a scheme and a host are added only to silence."""
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
    assert NEVER_HOP_BY_HOP.isdisjoint(FAMILY)
