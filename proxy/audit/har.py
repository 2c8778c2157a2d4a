"""HAR files of Chromium and Firefox, read as a stream: one entry at a time, so a file may have any length.

What browsers differ in: Chromium marks answers from its cache with `_fromCache` or `_fromDiskCache`, says with
`_resourceType` who asked, and joins repeated fields with a line feed; Playwright writes a transfer size of 0; Firefox only
a size of 0 for the head that it did not receive. Both can leave out content, and Chromium's "sanitized" export leaves out
cookies and credentials.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

import ijson

from proxy.audit.observation import NOT_MODIFIED, Asker, Content, Observation, digest_content
from proxy.message.fields import Field, is_token

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_STATUSES: Final = range(200, 600)
_END_OF_TIME_S: Final = 253402300800  # the year 10000, of which `datetime` knows nothing
_ASKERS: Final[Mapping[str, Asker]] = {"xhr": "xhr", "fetch": "fetch", "document": "page"}
_CACHE_MARKS: Final = ("_fromCache", "_fromDiskCache", "_fromMemoryCache", "fromCache")


class HarError(ValueError):
    """A file that is no HAR file, or ends too early; the text says where."""


@dataclass(slots=True)
class Recording:
    """What the entries of one or more HAR files had in common.

    Attributes:
        site: host and port of the first page: other sites are not the app's.
        other_sites: answers of those.
        unreadable: entries that are no answers: aborted, blocked, or of no known form.
        from_cache, renewed: answers that the browser took from its cache, without asking and after a 304.
        has_credentials: some request had a `Cookie` or `Authorization`.
        without_content: answers whose content the export left out.
    """

    site: str = ""
    entries: int = 0
    other_sites: int = 0
    unreadable: int = 0
    from_cache: int = 0
    renewed: int = 0
    without_content: int = 0
    has_credentials: bool = False

    def read(
        self, file: BinaryIO, name: str, progress: Callable[[int], None] = lambda _: None
    ) -> Iterator[Observation]:
        """Read one HAR file.

        Args:
            name: how to call it in errors.
            progress: called after each read, with the number of bytes.

        Raises:
            HarError: it is not a HAR file.
        """
        before = self.entries
        try:
            for entry in ijson.items(_Source(file, progress), "log.entries.item", use_float=True):
                self.entries += 1
                observation = self._observe(entry)
                if observation is not None:
                    yield observation
        except (ijson.JSONError, UnicodeDecodeError) as error:
            text = str(error).splitlines()[0] if str(error) else "it cannot be read"
            raise HarError(f"{name}: not a HAR file, or cut short: {text}") from error
        if self.entries == before:
            raise HarError(f"{name}: no entries; a HAR file has them under log.entries")

    def notes(self) -> list[str]:
        """Say what the reader of the report must know about the recording."""
        notes = []
        if self.from_cache or self.renewed:
            notes.append(
                f"Answered by the browser's cache in this recording: {self.from_cache}, "
                f"and {self.renewed} more after the app had said 304."
            )
        if self.other_sites:
            notes.append(f"Answers of other sites than {self.site}, left out: {self.other_sites}.")
        if self.without_content:
            notes.append(
                f"Answers recorded without content, compared by ETag and length: {self.without_content}."
            )
        if self.unreadable:
            notes.append(
                f"Entries that are no answers, such as requests that were aborted: {self.unreadable}."
            )
        if self.entries and not self.has_credentials:
            notes.append(
                "No request has a Cookie or Authorization (a sanitized export?): leaks cannot be seen."
            )
        return notes

    def _observe(self, entry: object) -> Observation | None:
        try:
            seen, site = _read_entry(entry)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.unreadable += 1
            return None
        self.site = self.site or site
        if site != self.site:
            self.other_sites += 1
            return None
        self.from_cache += seen.is_from_cache
        self.renewed += seen.status == NOT_MODIFIED and not seen.is_from_cache
        self.has_credentials |= any(
            name.lower() in (b"cookie", b"authorization") for name, _ in seen.request_fields
        )
        is_compared = not seen.is_from_cache and seen.status not in (NOT_MODIFIED, 204)
        self.without_content += seen.content is None and is_compared
        return seen


class _Source:
    """A file without the byte order mark that Fiddler writes; it reports how many bytes were read."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress
        self._is_at_start = True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress(len(data))
        if self._is_at_start and size:
            self._is_at_start = False
            while 0 < len(data) < len(_BYTE_ORDER_MARK) and (more := self._file.read(1)):
                data += more
            data = data.removeprefix(_BYTE_ORDER_MARK)
        return data


def _read_entry(entry: Any) -> tuple[Observation, str]:  # noqa: ANN401 - JSON of another program
    """Read one entry.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: it is no answer.
    """
    request, response = entry["request"], entry["response"]
    url = urlsplit(request["url"])
    status = int(response["status"])
    if url.scheme not in ("http", "https") or not url.netloc or status not in _STATUSES:
        raise ValueError("no answer of a site")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    content = response.get("content") or {}
    site = url.netloc.rpartition("@")[2].lower()
    observation = Observation(
        at_s=_arrival_s(entry),
        method=str(request["method"]),
        authority=site.encode(),
        target=target.encode("utf-8", "surrogateescape"),
        status=status,
        request_fields=_with_cookies(_fields(request["headers"]), request.get("cookies")),
        response_fields=_fields(response["headers"]),
        content=_content(content),
        shown_asker=_ASKERS.get(str(entry.get("_resourceType"))),
        is_from_cache=_is_from_cache(entry, response),
    )
    return observation, site


def _arrival_s(entry: dict[str, Any]) -> float:
    """Return when the answer was there: the start of the request and the time that it took."""
    started = datetime.fromisoformat(entry["startedDateTime"])
    if started.tzinfo is None:
        started = started.replace(tzinfo=UTC)
    arrival_s = started.timestamp() + max(0.0, float(entry.get("time") or 0)) / 1000
    if not 0 <= arrival_s < _END_OF_TIME_S:
        raise ValueError("no time of a recording")
    return arrival_s


def _fields(headers: list[dict[str, str]]) -> tuple[Field, ...]:
    """Return field lines; HTTP/2's pseudo-fields, which begin with a colon, are none."""
    fields = []
    for header in headers:
        name = header["name"].encode("latin-1", "replace")
        if is_token(name):
            fields += [(name, line.strip().encode("utf-8")) for line in header["value"].split("\n")]
    return tuple(fields)


def _with_cookies(fields: tuple[Field, ...], cookies: list[dict[str, str]] | None) -> tuple[Field, ...]:
    """Add `Cookie` where an export has the cookies only as a list."""
    if not cookies or any(name.lower() == b"cookie" for name, _ in fields):
        return fields
    pairs = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in cookies)
    return (*fields, (b"Cookie", pairs.encode("utf-8")))


def _content(content: dict[str, Any]) -> Content | None:
    text = content.get("text")
    if not isinstance(text, str) or (not text and content.get("size")):
        return None
    if content.get("encoding") != "base64":
        return digest_content(text.encode("utf-8", "surrogatepass"))
    try:
        return digest_content(base64.b64decode(text, validate=True))
    except binascii.Error:
        return None


def _is_from_cache(entry: dict[str, Any], response: dict[str, Any]) -> bool:
    """Whether the browser answered without asking the app. Firefox tells a 304 by `cache.afterRequest`, and nothing else."""
    if any(entry.get(mark) or response.get(mark) for mark in _CACHE_MARKS):
        return True
    if response.get("headersSize") == 0 and not entry.get("serverIPAddress"):
        return True  # Firefox
    has_content = (response.get("content") or {}).get("size", 0) > 0
    return response.get("_transferSize") == 0 and has_content
