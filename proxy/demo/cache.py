"""A cache that behaves as Internet Explorer's (WinINET) does with scripts: legal, and the cause of the story.

What RFC 9111 leaves open is decided here as that browser decides it:

- A 200 without freshness information and without `Last-Modified` stays fresh for the whole session.
- With `Last-Modified` it stays fresh for a tenth of its age (Internet Explorer 9 and later).
- There is one response for each URL, whatever the request fields were: a `Vary` with more than
  `Accept-Encoding`, `Host` and `User-Agent` makes it ask again.
- `Pragma: no-cache` in a response counts as `Cache-Control: no-cache`, and the response is not kept.
- `post-check` and `pre-check` do nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from proxy.audit.assess import Assessment, assess
from proxy.message.directives import parse_directives
from proxy.message.fields import Field, Fields, list_members, values_of

_IGNORED_IN_VARY = frozenset((b"accept-encoding", b"host", b"user-agent"))
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


@dataclass(frozen=True, slots=True)
class Response:
    """A response as a script sees it.

    Attributes:
        status: final status code.
        fields: field lines in wire order, duplicates kept.
        content: whole, without content coding.
    """

    status: int
    fields: tuple[Field, ...]
    content: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all lines of a field, whose name is given in lower case."""
        return values_of(self.fields, name)


@dataclass(frozen=True, slots=True)
class _Stored:
    response: Response
    assessment: Assessment
    received_at_s: float


class InternetExplorerCache:
    """The cache of one browser session. Keeps no clock: every call is told the time as Unix seconds."""

    def __init__(self) -> None:
        self._stored: dict[str, _Stored] = {}

    def find_fresh(self, url: str, now_s: float) -> Response | None:
        """Return what answers a GET of `url` without asking anybody, or `None`."""
        stored = self._stored.get(url)
        if stored is None or not _may_answer_unasked(stored, now_s):
            return None
        return stored.response

    def conditions(self, url: str) -> tuple[Field, ...]:
        """Return the fields of a conditional request that asks whether the stored response still holds."""
        stored = self._stored.get(url)
        if stored is None:
            return ()
        pairs = ((b"If-None-Match", b"etag"), (b"If-Modified-Since", b"last-modified"))
        return tuple(
            (name, values[0]) for name, source in pairs if (values := stored.response.values(source))
        )

    def take(
        self, method: str, url: str, request_fields: Fields, response: Response, now_s: float
    ) -> Response:
        """Take note of a response from the network.

        Returns:
            What the script gets: the response itself, or for a 304 the stored one it stands for.
        """
        if method != "GET":
            if method not in _SAFE_METHODS:
                # RFC 9111 section 4.4: this URL alone, no other that shows the same data.
                self._stored.pop(url, None)
            return response
        stored = self._stored.get(url)
        if response.status == 304 and stored is not None:  # noqa: PLR2004 - Not Modified
            response = replace(stored.response, fields=_updated(stored.response.fields, response.fields))
        assessment = assess(
            method,
            response.status,
            request_fields,
            response.fields,
            cache="private",
            received_at_s=int(now_s),
        )
        if assessment.may_store and not _has_pragma_no_cache(response):
            self._stored[url] = _Stored(response, assessment, now_s)
        else:
            self._stored.pop(url, None)
        return response


def _may_answer_unasked(stored: _Stored, now_s: float) -> bool:
    assessment = stored.assessment
    if not assessment.may_reuse_without_validation or _varies(stored.response):
        return False
    if assessment.freshness_lifetime_s is None:
        return True
    age_s = assessment.initial_age_s + now_s - stored.received_at_s
    return age_s < assessment.freshness_lifetime_s


def _varies(response: Response) -> bool:
    members = (member.lower() for value in response.values(b"vary") for member in list_members(value))
    return any(member not in _IGNORED_IN_VARY for member in members)


def _has_pragma_no_cache(response: Response) -> bool:
    return any(directive.name == "no-cache" for directive in parse_directives(response.values(b"pragma")))


def _updated(stored: tuple[Field, ...], fresh: tuple[Field, ...]) -> tuple[Field, ...]:
    """Replace stored fields by those of a 304, RFC 9111 section 3.2; its length is not the content's."""
    names = {name.lower() for name, _ in fresh} - {b"content-length"}
    kept = tuple(field for field in stored if field[0].lower() not in names)
    return kept + tuple(field for field in fresh if field[0].lower() in names)
