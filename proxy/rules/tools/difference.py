"""Names the rules that differ between two versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.rules.model import Rule

_MAX_NAMES: Final = 20  # named in the text, of each kind


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of rules in their order; `str()` is for the log.

    Attributes:
        changed: of the same name, and not the same; a changed policy changes every rule that uses it.
        is_reordered: rules that are in both versions stand in another order.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    is_reordered: bool

    def __str__(self) -> str:
        kinds = {"added": self.added, "changed": self.changed, "removed": self.removed}
        parts = [f"{kind} {_listed(names)}" for kind, names in kinds.items() if names]
        parts += ["order changed"] if self.is_reordered else []
        return ", ".join(parts) or "no rule changed"


def compare(before: Iterable[Rule], after: Iterable[Rule]) -> Difference:
    """Compare rules by name."""
    old, new = {rule.name: rule for rule in before}, {rule.name: rule for rule in after}
    return Difference(
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name, rule in new.items() if name in old and old[name] != rule),
        removed=tuple(name for name in old if name not in new),
        is_reordered=[name for name in old if name in new] != [name for name in new if name in old],
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return " ".join(names[:_MAX_NAMES]) + more
