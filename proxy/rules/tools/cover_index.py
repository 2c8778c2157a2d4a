"""Finds the few conditions that may cover others, so that lint need not compare all pairs of rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate, product
from typing import Final

from proxy.rules.keys.fields import FieldKey
from proxy.rules.keys.globs import has_wildcard
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.paths import PathRegexes, Paths

_ValuePlace = tuple[str, str] | None
"""What a key reads, and one text that it names. `None`: there is no such key."""
_Place = tuple[str, _ValuePlace]
_ANYWHERE: Final = ""
_WILDCARD: Final = "*"
_REGEX: Final = ""
_MAX_PLACES: Final = 64  # of one rule; a rule with more is compared with all others


class CoverIndex:
    """Numbered conditions, by the directory that their globs name and the field values that they list.

    Conditions look for those that may cover them in the same places.
    """

    def __init__(self) -> None:
        self._numbers: defaultdict[_Place, list[int]] = defaultdict(list)

    def add(self, number: int, wide: Conditions) -> None:
        """Add conditions that may cover others."""
        places = list(product(_directories(wide), _listed_values(wide)))
        if len(places) > _MAX_PLACES:
            places = [(_ANYWHERE, None)]
        for place in dict.fromkeys(places):
            self._numbers[place].append(number)

    def candidates(self, narrow: Conditions) -> list[int]:
        """Return the numbers of conditions that may cover these, in ascending order; none is left out."""
        found: set[int] = set()
        for place in product(_directories_above(narrow), _values_asked(narrow)):
            found.update(self._numbers.get(place, ()))
        return sorted(found)


def _directories(wide: Conditions) -> list[str]:
    paths = wide.get(Paths)
    return [_ANYWHERE] if paths is None or paths.is_every_path else list(map(_directory, paths.texts))


def _directories_above(narrow: Conditions) -> list[str]:
    paths = narrow.get(Paths)
    if paths is None:
        return [_ANYWHERE]
    segments = _directory(paths.texts[0]).split("/")[:-1]
    return [_ANYWHERE, *accumulate(segment + "/" for segment in segments)]


def _directory(glob: str) -> str:
    """Return the directory that contains every path that a glob matches."""
    literal = glob[: min((place for sign in "*?" if (place := glob.find(sign)) >= 0), default=len(glob))]
    directory = literal[: literal.rfind("/") + 1]
    # `/a/**/b` and `/a**` take `/a/b` and `/a`, which stand one directory further up.
    return (
        directory.rstrip("/").rpartition("/")[0] + "/"
        if glob[len(directory) :].startswith("**/")
        else directory
    )


def _listed_values(wide: Conditions) -> list[_ValuePlace]:
    """Return one place for each value that conditions must also list to be covered."""
    for key in wide.all(FieldKey):
        if key.globs:
            name, places = (
                key.field_name.lower(),
                [(key.field_name.lower(), glob.lower()) for glob in key.globs],
            )
            return [*places, (name, _WILDCARD)] if any(map(has_wildcard, key.globs)) else [*places]
    if wide.response:  # only the same conditions cover it
        return [(wide.response[0].name, wide.response[0].wanted)]
    regexes = wide.get(PathRegexes)
    return [None] if regexes is None else [(_REGEX, regex) for regex in regexes.texts]


def _values_asked(narrow: Conditions) -> Iterator[_ValuePlace]:
    yield None
    for key in narrow.all(FieldKey):
        if key.globs:
            name = key.field_name.lower()
            wildcard = next(filter(has_wildcard, key.globs), None)  # only the same glob covers it
            yield name, (wildcard or key.globs[0]).lower()
            if wildcard is None:
                yield name, _WILDCARD
    for each in narrow.response:
        yield each.name, each.wanted
    regexes = narrow.get(PathRegexes)
    if regexes is not None:
        yield _REGEX, regexes.texts[0]
