"""The interface of a match key: matching, `explain` and `lint` are loops over keys and know none of them by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, TypeVar

from proxy.rules.keys.facts import Patterns, Reading, RequestFacts, ResponseFacts, Subject

Stage = Literal["method", "path", "rest"]
"""When a key can be asked: paths are compared first, and what is found holds for every request with such a path."""

_Key = TypeVar("_Key", bound="Key")


class Key:
    """One key of `match` or `unless`.

    Attributes:
        name: where it stands below `match` or `unless`, such as `paths` or `headers.Accept`.
        says: what the author wrote, as a value; keys of one class that say the same are equal.
    """

    __slots__ = ("name", "says")

    def __init__(self, name: str, says: object) -> None:
        self.name = name
        self.says = says

    @property
    def wanted(self) -> str:
        """What the author wrote, as text."""
        raise NotImplementedError

    def covers(self, narrow: Conditions) -> bool:
        """Tell whether this key holds wherever these conditions do. `False` when it is not certain."""
        return any(self.covers_key(key) for key in narrow.keys if type(key) is type(self))

    def covers_key(self, narrow: Key) -> bool:
        """Tell whether this key holds wherever another of its class does. `False` when it is not certain."""
        return self == narrow

    def is_apart_from(self, other: Key) -> bool:  # noqa: ARG002 - for those that can tell
        """Tell whether this key and another of its class never hold together. `False` when it is not certain."""
        return False

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Key)
            and type(self) is type(other)
            and (self.name, self.says) == (other.name, other.says)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.says))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {self.wanted})"


class RequestKey(Key):
    """A key that a request can answer.

    Attributes:
        stage: when it can be asked.
    """

    __slots__ = ()
    stage: ClassVar[Stage] = "rest"

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the request fields that decide, in the author's spelling, for `Vary`."""
        return ()

    @property
    def patterns(self) -> Mapping[Subject, Patterns]:
        """The patterns that `facts.hits` must contain, by subject."""
        return {}

    def holds(self, facts: RequestFacts, reading: Reading) -> bool:
        """Tell whether the request has what the author wrote."""
        raise NotImplementedError

    def seen(self, facts: RequestFacts) -> str:
        """Say what the request has there."""
        raise NotImplementedError

    def note(self, facts: RequestFacts, reading: Reading) -> str:  # noqa: ARG002 - for those with several readings
        """Say which reading of the request decided, where what was sent does not show it."""
        return ""


class ResponseKey(Key):
    """A key that only the head of the app's response can answer."""

    __slots__ = ()

    def holds(self, facts: ResponseFacts, reading: Reading) -> bool:
        """Tell whether the response has what the author wrote."""
        raise NotImplementedError

    def seen(self, facts: ResponseFacts) -> str:
        """Say what the response has there."""
        raise NotImplementedError


class Conditions:
    """`match` or `unless` of a rule: every key must hold.

    Attributes:
        keys: in the order of the schema.
        request, response: the same by what can answer them.
    """

    __slots__ = ("keys", "request", "response")

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.keys = tuple(keys)
        self.request = tuple(key for key in self.keys if isinstance(key, RequestKey))
        self.response = tuple(key for key in self.keys if isinstance(key, ResponseKey))

    def get(self, kind: type[_Key]) -> _Key | None:
        """Return the first key of this class, `None` when the author did not write it."""
        return next((key for key in self.keys if isinstance(key, kind)), None)

    def all(self, kind: type[_Key]) -> tuple[_Key, ...]:
        """Return all keys of this class."""
        return tuple(key for key in self.keys if isinstance(key, kind))

    def only(self, *kinds: type[Key]) -> Conditions:
        """Return these conditions without the keys of other classes."""
        return Conditions(key for key in self.keys if isinstance(key, kinds))

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the request fields that decide, in the author's spelling."""
        return tuple(name for key in self.request for name in key.reads)

    def without(self, *kinds: type[Key]) -> Conditions:
        """Return these conditions without the keys of these classes."""
        return Conditions(key for key in self.keys if not isinstance(key, kinds))

    @property
    def asks_more_than_path(self) -> bool:
        """Whether any key besides method and path decides."""
        return bool(self.response) or any(key.stage == "rest" for key in self.request)

    def covers(self, narrow: Conditions) -> bool:
        """Tell whether these conditions hold wherever `narrow` holds."""
        return all(key.covers(narrow) for key in self.keys)

    def are_apart_from(self, other: Conditions) -> bool:
        """Tell whether these conditions and the others never hold together."""
        return any(
            key.is_apart_from(theirs)
            for key in self.keys
            for theirs in other.keys
            if type(key) is type(theirs)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditions) and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(self.keys)

    def __repr__(self) -> str:
        return f"Conditions({', '.join(map(repr, self.keys))})"
