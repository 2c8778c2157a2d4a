"""The law of mended responses: one that is odd leaves like its well-formed twin, so no policy is walked around by it.

RFC 9112 sections 2.2, 5.1, 5.2 and 6.3; issue 16.12.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.message.response import ResponseTable, render_response
from proxy.rules.policies import BUILT_IN, treatment
from tests.laws.holding import at_both_sizes, hold
from tests.laws.test_one_line import NAMES, STATUSES, VALUES

NOW = b"Mon, 07 Nov 1994 00:00:00 GMT"
LENGTHS = (b"Content-Length", b"content-length")
UNFOLDED = {b"content-length", b"transfer-encoding"}
OPTIONS = re.compile(rb"[\w-]+(?:, *[\w-]+)*")


@dataclass(frozen=True)
class Line:
    """A field, and how an odd app writes it."""

    name: bytes
    value: bytes
    before_colon: bytes
    fold: bytes
    fold_at: int

    def well_formed(self) -> bytes:
        return self.name + b": " + self.value

    def odd(self) -> bytes:
        """The same field with white space before its colon, and folded at one of its spaces, or before its value."""
        value = b" " + self.value
        spaces = [place for place, byte in enumerate(value) if byte == ord(" ")]
        name = self.name.lower()
        is_framing = name in UNFOLDED or (name == b"connection" and not OPTIONS.fullmatch(self.value))
        if self.fold and self.value and not is_framing:
            place = spaces[self.fold_at % len(spaces)]
            value = value[:place] + self.fold + value[place + 1 :]
        return self.name + self.before_colon + b":" + value


WHITE = (b"", b"", b" ", b"\t", b" \t ")
FOLDS = (b"", b"\r\n ", b"\r\n\t", b" \t\r\n  ")


@at_both_sizes
def test_odd_response_leaves_like_its_well_formed_twin(examples: int) -> None:
    hold(leaves_like_its_twin, examples)


def leaves_like_its_twin(chance: random.Random) -> None:
    policy, status = chance.choice(sorted(BUILT_IN)), chance.choice(STATUSES)
    method, vary = chance.choice(("GET", "HEAD", "POST")), chance.choice(((), ("X-Requested-With",)))
    length, lengths = chance.choice((b"5", b"0")), chance.choices(LENGTHS, k=chance.randint(1, 3))
    lines = [some_line(chance) for _ in range(chance.randrange(11))]
    start = b"HTTP/1.1 %d X" % status
    twin = [start, lengths[0] + b": " + length, *[line.well_formed() for line in lines], b"", b""]
    several = b" : " + length + b"," + length if chance.random() < 0.5 else b":" + length
    odd = [
        start,
        lengths[0] + several,
        *[line.odd() for line in lines],
        *[name + b": " + length for name in lengths[1:]],
        b"",
        b"",
    ]
    sent = b"\r\n".join(odd).replace(b"\r\n", chance.choice((b"\r\n", b"\r\n", b"\n")))
    expected, shown = rendered(b"\r\n".join(twin), policy, method, vary)
    found, shown_of_odd = rendered(sent, policy, method, vary)
    assert found == expected
    assert list(shown_of_odd)[1 : len(shown)] == list(shown)[1:]


def some_line(chance: random.Random) -> Line:
    choices = map(chance.choice, (NAMES, VALUES, WHITE, FOLDS))
    return Line(*choices, chance.randrange(6))


def rendered(head: bytes, policy: str, method: str, vary: tuple[str, ...]) -> tuple[bytes, Sequence[object]]:
    """What leaves, and the fields that rules are shown."""
    response = ResponseTable().read(head, method)
    outgoing = render_response(
        response,
        treatment(BUILT_IN[policy], vary),
        method=method,
        client_minor=1,
        keep_alive=True,
        now=NOW,
    )
    return outgoing.data, response.section.fields
