"""The key `query`: parameters of the request target's query."""

from __future__ import annotations

from typing import Final

from proxy.rules.keys.facts import RequestFacts, Subject
from proxy.rules.keys.values import ValueKey, Wanted

QUERY: Final = "query "
"""What subjects of parameters begin with."""


class Parameter(ValueKey):
    """A condition on one parameter, by its name as the app decodes it.

    A parameter that is given more than once has a reading for each value: apps take the first, the last, or all.

    Args:
        parameter: its name, with regard to case.
        wanted: globs with regard to case, or whether the parameter is there.
    """

    __slots__ = ()

    def __init__(self, parameter: str, wanted: Wanted) -> None:
        super().__init__(f"query.{parameter}", parameter_subject(parameter), wanted, ignores_case=False)

    def seen(self, facts: RequestFacts) -> str:
        query = facts.target.partition(b"?")[2]
        return query.decode("utf-8", "backslashreplace") or "no query"


def parameter_subject(name: str) -> Subject:
    """Return the subject of a parameter."""
    return QUERY + name
