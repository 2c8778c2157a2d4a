"""A daemon thread for calls that may hang or take long. The process exits without waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Calls functions one after the other in a thread of its own.

    An executor's threads are joined at exit, so a hanging file system would keep the process alive.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, function: Callable[..., T], *arguments: Any) -> Future[T]:  # noqa: ANN401 - the function's
        """Queue a call. To await the result, use `asyncio.wrap_future`."""
        future: Future[T] = Future()
        self._calls.put((future, lambda: function(*arguments)))
        return future

    def _run(self) -> None:
        while True:
            future, call = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                future.set_exception(error)
            del future, call  # do not keep them alive until the next call
