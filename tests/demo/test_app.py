"""The legacy app of the story: cacheable as the story tells, conditional as Flask is, and self-contained."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.audit.assess import assess
from proxy.demo.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    with create_app(str(tmp_path)).test_client() as client:
        yield client


def upload(client: FlaskClient, name: str) -> int:
    with client.post("/file/upload", data={"file": (io.BytesIO(b"content of it"), name)}) as response:
        return response.status_code


def test_last_upload_is_told(client: FlaskClient) -> None:
    assert client.get("/file/last_uploaded").json == {"name": None, "uploads": 0}
    for name in ("a.txt", "b.txt", "a.txt"):
        assert upload(client, name) == 201
    assert client.get("/file/last_uploaded").json == {"name": "a.txt", "uploads": 3}


def test_answer_may_be_reused_by_any_cache(client: FlaskClient) -> None:
    """Unmodified as it is, RFC 9111 lets every cache repeat it: the bug is the app's."""
    response = client.get("/file/last_uploaded")
    fields = [(name.encode(), value.encode()) for name, value in response.headers]
    assessment = assess("GET", 200, (), fields, cache="shared", received_at_s=0)
    assert assessment.may_reuse_without_validation
    assert assessment.freshness_lifetime_s is None


def test_upload_needs_a_name(client: FlaskClient) -> None:
    assert upload(client, "..") == 400
    assert client.post("/file/upload").status_code == 400


def test_download_is_an_attachment_with_conditions_and_ranges(client: FlaskClient) -> None:
    """As Flask's `send_from_directory` does by itself."""
    upload(client, "a.txt")
    with client.get("/file/download/a.txt") as whole:
        assert whole.headers["Content-Disposition"].startswith("attachment")
        tag = whole.headers["ETag"]
    with client.get("/file/download/a.txt", headers={"If-None-Match": tag}) as unchanged:
        assert unchanged.status_code == 304
    with client.get("/file/download/a.txt", headers={"Range": "bytes=0-6"}) as part:
        assert (part.status_code, part.data) == (206, b"content")
    assert client.get("/file/download/../app.py").status_code == 404


def test_page_needs_nothing_from_elsewhere(client: FlaskClient) -> None:
    """Every resource it names is its own, and is there."""
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', client.get("/").text)
    assert addresses
    for address in addresses:
        if not address.startswith("data:"):
            assert address.startswith("/")
            with client.get(address) as response:
                assert response.status_code == 200
                assert not re.search(r"https?://|@import|url\(", response.get_data(as_text=True))


def test_clock_may_be_repeated_for_as_long_as_the_page_says(client: FlaskClient) -> None:
    """By every browser, not by Internet Explorer alone; only what the page compares it with may not."""
    response = client.get("/clock")
    fields = [(name.encode(), value.encode()) for name, value in response.headers]
    assessment = assess("GET", 200, (), fields, cache="private", received_at_s=0)
    assert assessment.freshness_lifetime_s == 600
    assert response.headers["Cache-Control"] in client.get("/").text
    assert client.get("/clock/now").headers["Cache-Control"] == "no-store"


def test_pages_name_each_other_where_both_are_known(tmp_path: Path) -> None:
    """In a container nobody reaches the app without the proxy: nothing leads there."""
    sites = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    with create_app(str(tmp_path), sites).test_client() as client:
        assert re.findall(r'<iframe src="([^"]*)/"', client.get("/both").text) == list(sites)
        assert re.findall(r'href="(http[^"]*)"', client.get("/").text) == [f"{sites[1]}/", f"{sites[0]}/both"]
    with create_app(str(tmp_path)).test_client() as client:
        assert client.get("/both").status_code == 404
        assert "http://" not in client.get("/").text


def test_page_asks_in_both_ways() -> None:
    """By XMLHttpRequest as jQuery does, and by fetch(), which says nothing of itself."""
    script = (Path(__file__).parents[2] / "proxy/demo/static/page.js").read_text()
    assert 'setRequestHeader("X-Requested-With", "XMLHttpRequest")' in script
    assert 'fetch("/file/last_uploaded")' in script
