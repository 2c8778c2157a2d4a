"""HAR files: of browsers, of other programs, of any length, and broken ones."""

from __future__ import annotations

import base64
import io
import itertools
import json
import tracemalloc
from pathlib import Path

import pytest

from proxy.audit.har import HarError, Recording
from proxy.audit.observation import Observation, asker_of, digest_content
from tests.audit.recordings import firefox
from tests.audit.recordings.record import record_firefox, serving
from tests.support.programs import program

RECORDINGS = Path(__file__).parent / "recordings"
BASE = {
    "startedDateTime": "2026-11-26T18:56:38.620Z",
    "time": 1500,
    "request": {"method": "GET", "url": "http://app/a?b=c", "headers": [], "cookies": []},
    "response": {"status": 200, "headers": [], "content": {"size": 2, "text": "{}"}},
    "cache": {},
}


def entry(**changes) -> dict:
    """An entry with some of its members replaced, those of request and response one by one."""
    made = {key: dict(value) if isinstance(value, dict) else value for key, value in BASE.items()}
    for key, value in changes.items():
        made[key] = {**made[key], **value} if isinstance(made.get(key), dict) else value
    return made


def har(*entries, **log) -> bytes:
    return json.dumps({"log": {"version": "1.2", "pages": [], "entries": list(entries), **log}}).encode()


def read(data: bytes, recording: Recording | None = None) -> list[Observation]:
    return list((recording or Recording()).read(io.BytesIO(data), "test.har"))


def headers(**fields: str) -> list[dict[str, str]]:
    return [{"name": name.replace("_", "-"), "value": value} for name, value in fields.items()]


def test_entry_becomes_an_observation():
    asked = headers(X_Requested_With="XMLHttpRequest", Cookie="a=1")
    said = headers(Cache_Control="max-age=60", Set_Cookie="x=1\ny=2")
    (seen,) = read(har(entry(request={"headers": asked}, response={"headers": said}, _resourceType="xhr")))
    assert seen == Observation(
        at_s=1795719400.12,
        method="GET",
        authority=b"app",
        target=b"/a?b=c",
        status=200,
        request_fields=((b"X-Requested-With", b"XMLHttpRequest"), (b"Cookie", b"a=1")),
        response_fields=((b"Cache-Control", b"max-age=60"), (b"Set-Cookie", b"x=1"), (b"Set-Cookie", b"y=2")),
        content=digest_content(b"{}"),
        shown_asker="xhr",
    )


def test_base64_content_is_the_content():
    text = base64.b64encode(b"\x00\xff").decode()
    (seen,) = read(har(entry(response={"content": {"size": 2, "text": text, "encoding": "base64"}})))
    assert seen.content == digest_content(b"\x00\xff")


@pytest.mark.parametrize(
    "content", [{"size": 7}, {"size": 7, "text": ""}, {"text": "!", "encoding": "base64"}, {}]
)
def test_export_without_content_is_told(content):
    recording = Recording()
    (seen,) = read(
        har({**entry(), "response": {"status": 200, "headers": [], "content": content}}), recording
    )
    assert seen.content is None
    assert "Answers recorded without content, compared by ETag and length: 1." in recording.notes()


def test_empty_content_is_content():
    (seen,) = read(
        har({**entry(), "response": {"status": 200, "headers": [], "content": {"size": 0, "text": ""}}})
    )
    assert seen.content == digest_content(b"")


@pytest.mark.parametrize(
    "mark",
    [
        {"_fromCache": "disk"},
        {"_fromCache": "memory"},
        {"_fromDiskCache": True},
        {"fromCache": True},
        {"response": {"_fromDiskCache": True}},
        {"response": {"_transferSize": 0}},
        {"response": {"headersSize": 0}},
    ],
)
def test_answers_from_the_cache_are_told_apart(mark):
    recording = Recording()
    (seen, other) = read(har(entry(**mark), entry()), recording)
    assert (seen.is_from_cache, other.is_from_cache) == (True, False)
    assert (
        "Answered by the browser's cache in this recording: 1, and 0 more after the app had said 304."
        in recording.notes()
    )


def test_304_is_counted_as_answered_by_the_cache_and_is_evidence_all_the_same():
    recording = Recording()
    (seen,) = read(har(entry(response={"status": 304})), recording)
    assert not seen.is_from_cache
    assert (
        "Answered by the browser's cache in this recording: 0, and 1 more after the app had said 304."
        in recording.notes()
    )


def test_cookies_of_exports_without_the_field_count_as_credentials():
    (seen,) = read(
        har(entry(request={"cookies": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}))
    )
    assert seen.request_fields == ((b"Cookie", b"a=1; b=2"),)


def test_sanitized_export_is_told_not_to_show_leaks():
    recording = Recording()
    read(har(entry()), recording)
    assert any("leaks cannot be seen" in note for note in recording.notes())
    read(har(entry(request={"headers": headers(authorization="Basic x")})), recording)
    assert not any("leaks cannot be seen" in note for note in recording.notes())


def test_other_sites_than_that_of_the_first_page_are_left_out():
    recording = Recording()
    other = entry(request={"url": "https://cdn.example/x.js"})
    assert len(read(har(entry(), other, entry(request={"url": "http://APP/b"})), recording)) == 2
    assert "Answers of other sites than app, left out: 1." in recording.notes()


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "text",
        {},
        {**entry(), "startedDateTime": "yesterday"},
        {**entry(), "time": "long"},
        {**entry(), "time": "Infinity"},
        {**entry(), "time": 1e18},
        {**entry(), "startedDateTime": "0001-01-01T00:00:00+14:00"},
        entry(response={"status": 0}),
        entry(request={"url": "data:text/plain,x"}),
        entry(request={"url": "http://["}),
        entry(request={"headers": [{"name": "a"}]}),
        entry(request={"headers": [{"name": "a", "value": 5}]}),
        entry(response={"headers": None}),
    ],
)
def test_what_is_no_answer_is_left_out_and_counted(broken):
    recording = Recording()
    assert len(read(har(broken, entry()), recording)) == 1
    assert recording.unreadable == 1


@pytest.mark.parametrize(
    "data", [b"", b"no JSON", b"{}", b"[]", b'{"log": {"entries": []}}', b"\xff\xfe{\x00"]
)
def test_file_that_is_no_har_is_refused_by_name(data):
    with pytest.raises(HarError, match=r"^test\.har: "):
        read(data)


def test_file_that_was_cut_short_is_refused():
    with pytest.raises(HarError, match="cut short"):
        read(har(entry(), entry())[:-40])


def test_byte_order_mark_is_skipped():
    assert len(read(b"\xef\xbb\xbf" + har(entry()))) == 1


def test_recording_of_chromium_with_fetch_xhr_and_answers_from_its_cache():
    recording = Recording()
    with (RECORDINGS / "chromium.har").open("rb") as file:
        seen = list(recording.read(file, "chromium.har"))
    by_path: dict[bytes, list[Observation]] = {}
    for observation in seen:
        by_path.setdefault(observation.target.partition(b"?")[0], []).append(observation)
    assert [one.is_from_cache for one in by_path[b"/api/cached"]] == [False, True, True, True]
    assert len({one.content for one in by_path[b"/api/cached"]}) == 1
    assert len({one.content for one in by_path[b"/api/changing"]}) == 4
    assert {one.shown_asker for one in by_path[b"/"]} == {"page"}
    assert {one.shown_asker for one in by_path[b"/api/secret"]} == {"fetch"}
    assert {one.shown_asker for one in by_path[b"/xhr/last"]} == {"xhr"}
    assert recording.has_credentials
    assert recording.unreadable == 0


@pytest.mark.parametrize(("name", "has_content"), [("firefox", True), ("firefox-without-content", False)])
def test_recording_of_firefox_with_and_without_content(name, has_content):
    recording = Recording()
    with (RECORDINGS / f"{name}.har").open("rb") as file:
        check_firefox(list(recording.read(file, name)), has_content=has_content)
    assert (recording.has_credentials, recording.unreadable, recording.other_sites) == (True, 0, 0)
    assert (recording.without_content == 0) is has_content
    assert recording.renewed == 2
    assert "Answered by the browser's cache in this recording: 5, and 2 more after the app had said 304." in (
        recording.notes()
    )


@pytest.mark.slow
@pytest.mark.peer
def test_firefox_that_is_installed_writes_such_a_file():
    program(firefox.FIREFOX)
    with serving() as site:
        check_firefox(read(record_firefox(site).encode()), has_content=True)


def check_firefox(seen: list[Observation], *, has_content: bool) -> None:
    by_path: dict[bytes, list[Observation]] = {}
    for observation in seen:
        by_path.setdefault(observation.target.partition(b"?")[0], []).append(observation)
    assert [one.is_from_cache for one in by_path[b"/api/cached"]] == [False, True, True, True]
    assert [one.is_from_cache for one in by_path[b"/static/logo.3f2a9c81.png"]] == [False, True]
    assert [one.status for one in by_path[b"/api/tagged"]] == [200, 304, 304]
    assert not any(one.is_from_cache for one in by_path[b"/api/tagged"] + by_path[b"/api/secret"])
    contents = {one.content for one in by_path[b"/api/changing"]}
    assert len(contents) == (4 if has_content else 1)
    assert (None in contents) is not has_content
    assert {asker_of(one.request_fields) for one in by_path[b"/"]} == {"page"}
    assert {asker_of(one.request_fields) for one in by_path[b"/api/secret"]} == {"fetch"}
    assert {asker_of(one.request_fields) for one in by_path[b"/xhr/last"]} == {"xhr"}


class Endless(io.RawIOBase):
    """A HAR file that is written while it is read."""

    def __init__(self, entries: int, text: str) -> None:
        one = json.dumps(entry(response={"content": {"size": len(text), "text": text}})).encode()
        self._parts = itertools.chain(
            [b'{"log":{"entries":[', one], itertools.repeat(b"," + one, entries - 1), [b"]}}"]
        )
        self._rest = b""
        self.size = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = part
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        self.size += len(taken)
        return len(taken)


@pytest.mark.parametrize(("entries", "size"), [(4000, 5_000), (40, 500_000)])
def test_memory_does_not_grow_with_the_length_of_the_file(entries, size):
    source = Endless(entries, "x" * size)
    progress: list[int] = []
    tracemalloc.start()
    try:
        count = sum(1 for _ in Recording().read(io.BufferedReader(source), "endless", progress.append))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == entries
    assert sum(progress) == source.size > 19_000_000
    assert peak < 10 * size + 2_000_000
