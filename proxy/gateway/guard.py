"""What the event loop calls must not fail unseen: a mistake of this program is logged, counted and answered for.

Hot callbacks have the same written out, as the wrapper costs a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Guarded(Protocol):
    """What has callbacks."""

    def failed_by_itself(self) -> None:
        """A callback has raised: answer, or reset; called while the exception is handled."""


SelfT = TypeVar("SelfT", bound=Guarded)
ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


def guarded(
    callback: Callable[Concatenate[SelfT, ParamsT], ResultT],
) -> Callable[Concatenate[SelfT, ParamsT], ResultT | None]:
    """Wrap a callback of the event loop: when it fails, `failed_by_itself` is called and `None` returned."""

    @wraps(callback)
    def wrapper(self: SelfT, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ResultT | None:
        try:
            return callback(self, *args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever it is; it is in the log
            self.failed_by_itself()
            return None

    return wrapper
