"""Case 43: an independent judge, httplint, on enforced responses of `strict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

from tests.cases.support import Reply, response, rules
from tests.legacy.app import ETAG

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cases.conftest import Scripted, ToFlask

RULES = rules("{name: all, match: {paths: ['/**']}}")
# Pragma has no specified meaning in a response (RFC 9111 section 5.4); caches of HTTP/1.0 heed it there.
KNOWN = ("Pragma", "REQUEST_HDR_IN_RESPONSE")

Notes = dict[tuple[str, str], levels]


def lint(reply: Reply, *, method: str = "GET", target: str = "/api/data") -> Notes:
    """Let httplint read a response; return the level of each note by (field name, note)."""
    asked = HttpRequestLinter()
    asked.process_request_topline(method.encode(), f"http://app.example{target}".encode(), b"1.1")
    asked.process_headers([(b"Host", b"app.example")])
    asked.finish_content(complete=True)
    linter = HttpResponseLinter()
    linter.request = asked
    linter.is_head_response = method == "HEAD"
    linter.process_response_topline(b"1.1", str(reply.status).encode(), reply.reason.encode())
    fields = [line.partition(b":") for line in reply.raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    linter.process_headers([(name, value.strip()) for name, _, value in fields])
    if reply.content:
        linter.feed_content(reply.content)
    linter.finish_content(complete=reply.is_complete)
    notes = [*linter.notes, *(sub for note in linter.notes for sub in note.subnotes)]
    return {(str(note.vars.get("field_name", "")), type(note).__name__): note.level for note in notes}


def assert_fit(notes: Notes) -> None:
    """Nothing bad, and it may not be stored."""
    assert "STORE_NO_STORE" in {name for _, name in notes}
    assert [note for note, level in notes.items() if level is levels.BAD and note != KNOWN] == []
    assert "CHECK_ALL_ZERO" not in {name for _, name in notes}  # what post-check and pre-check would give


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "status", "lines"),
    [
        ("/api/data", 200, ()),
        ("/api/data", 200, (f'If-None-Match: "{ETAG}"',)),
        ("/page", 200, ()),
        ("/file/download/a", 200, ()),
        ("/status/301", 301, ()),
        ("/status/404", 404, ()),
        ("/status/500", 500, ()),
        ("/api//data", 308, ()),
        ("/missing", 404, ()),
    ],
)
async def test_case_43_real_responses(
    to_flask: ToFlask, method: str, target: str, status: int, lines: tuple[str, ...]
) -> None:
    """What Flask and the real servers send, enforced."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask(target, *lines, method=method)
    assert reply.status == status
    assert_fit(lint(reply, method=method, target=target))


@pytest.mark.parametrize(
    "lines",
    [
        ["Cache-Control: public, max-age=31536000, immutable", "Age: 10"],
        ["Cache-Control: max-age=600", "Cache-Control: s-maxage=600, stale-while-revalidate=60"],
        ["Cache-Control: no-store, must-understand"],
        ["Expires: 0", "Pragma: cache", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
        ['ETag: W/"x"', "Vary: Accept-Encoding"],
        ["CDN-Cache-Control: max-age=600", "Surrogate-Control: max-age=600", "Warning: 110 - x"],
    ],
)
async def test_case_43_hostile_responses(scripted: Scripted, lines: list[str]) -> None:
    """Whatever the app says about caching is gone."""
    gateway, _ = await scripted(response("Content-Type: text/plain; charset=utf-8", *lines), RULES)
    assert_fit(lint(await gateway.ask("/api/data")))


async def test_case_43_own_errors(tmp_path: Path, scripted: Scripted) -> None:
    """400 and 502 as the gateway makes them."""
    gateway, _ = await scripted(b"nonsense\r\n\r\n", RULES)
    for target, status in (("/api/data", 502), ("/a b", 400)):
        reply = await gateway.ask(target)
        assert reply.status == status
        assert_fit(lint(reply))


async def test_linter_sees_what_is_wrong(scripted: Scripted) -> None:
    """The judge is awake: an unprotected response is told apart."""
    gateway, _ = await scripted(
        response("Cache-Control: max-age=600"), rules("{name: x, match: {paths: ['/x']}}")
    )
    notes = lint(await gateway.ask("/api/data"))
    assert "STORE_NO_STORE" not in {name for _, name in notes}
