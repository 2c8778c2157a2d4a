"""The rules as plain values: what a rules file means once it has been read and checked.

Nothing here reads YAML, matches a request or touches a response: `loading` makes these values, the engine decides by
them, `explain` and `lint` talk about them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from proxy.message.rewrite import ETagMode, LastModifiedMode
from proxy.rules.keys.key import Conditions

ConditionalsMode = Literal["strip", "keep"]
Mode = Literal["enforce", "observe"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to the fields of a response (and to the conditional fields of its request).

    Attributes:
        name: as in the rules file.
        set_fields: (name, value) pairs, written last and in this order; each replaces every
            upstream line of that name. A `Cache-Control` keeps the upstream's `no-transform`.
        remove: lower-case field names to drop; one that begins with `*` drops every name that
            ends with the rest (`*-cache-control`).
        etag: `mark` gives enforced responses tags that no copy stored without them carries.
        last_modified: `date` sets it to the response's `Date`.
        conditionals: `strip` takes validation preconditions off GET and HEAD requests.
    """

    name: str
    set_fields: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    etag: ETagMode = "keep"
    last_modified: LastModifiedMode = "keep"
    conditionals: ConditionalsMode = "keep"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; the first whose `match` holds and whose `unless` does not decides."""

    name: str
    policy: Policy
    match: Conditions = field(default_factory=Conditions)
    unless: Conditions | None = None
    mode: Mode = "enforce"
    because: str = ""
