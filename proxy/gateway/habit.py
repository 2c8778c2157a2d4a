"""Whether the app keeps connections open after an answer, as far as its connections have shown."""

from __future__ import annotations

from typing import Final

from proxy.gateway.clock import TICK_S

SHORT_REST_S: Final = 2 * TICK_S  # at least one tick of real time: a coarse clock counts up to one too many
_FEAR_S: Final = 600.0


class Habit:
    """What the app does with connections after one kind of request.

    Some apps close without a word: the answer was HTTP/1.1 and did not say `Connection: close`. uWSGI's `--http-socket`
    does so after every answer, its `--http11-socket` after an answer to content that the app left unread. A request that
    meets such an end is lost, so what cannot be sent twice must not run into it.

    Attributes:
        was_kept: a connection has answered once more after such a request.
        feared_until_s: the clock's time until which what was seen may happen again.
    """

    __slots__ = ("feared_until_s", "was_kept")

    def __init__(self) -> None:
        self.was_kept = False
        self.feared_until_s = 0.0

    def note_end(self, now_s: float, idle_since_s: float) -> None:
        """A connection has ended; after a long rest that is the app's time-out, which says nothing."""
        if now_s - idle_since_s < SHORT_REST_S:
            self.feared_until_s = now_s + _FEAR_S

    def is_trusted(self, now_s: float) -> bool:
        """Whether the app keeps connections open after such a request, and was not seen to close one lately."""
        return self.was_kept and now_s >= self.feared_until_s
