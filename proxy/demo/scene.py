"""What a script saw of one site: three uploads, and what it was told after each."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.demo.browser import Answer
from proxy.demo.cache import Response


@dataclass(frozen=True, slots=True)
class Scene:
    """Three uploads to one site, each followed by the same XHR.

    Attributes:
        site: scheme and authority.
        uploads: the names uploaded, in order.
        answers: what the script got after each.
        given: what the app said at the same time, with the time: the audit judges it.
    """

    site: str
    uploads: tuple[str, ...]
    answers: tuple[Answer, ...]
    given: tuple[tuple[float, Response], ...] = ()

    @property
    def names(self) -> list[str]:
        """What the script was told to be the last upload, each time."""
        return [answer.json()["name"] for answer in self.answers]

    @property
    def shows_bug(self) -> bool:
        """The first answer is repeated from the browser's cache."""
        repeated = self.answers[1:]
        return self.names == [self.uploads[0]] * len(self.uploads) and all(a.is_from_cache for a in repeated)

    @property
    def shows_cure(self) -> bool:
        """Every answer is fresh and comes from the app."""
        return self.names == list(self.uploads) and not any(answer.is_from_cache for answer in self.answers)
