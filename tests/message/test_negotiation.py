"""What kind of content a client prefers."""

from __future__ import annotations

import pytest

from proxy.message.negotiation import prefers_json

AXIOS = "application/json, text/plain, */*"
JQUERY = "application/json, text/javascript, */*; q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    "value",
    [
        *[AXIOS, JQUERY, "APPLICATION/JSON", "application/vnd.api+json", "application/json;charset=utf-8"],
        *["text/html;q=0.8, application/json;q=0.9", "text/html;q=0, application/json ; q=0.1"],
        'application/json;profile="a,b"',
    ],
)
def test_client_that_asks_for_json_first_prefers_it(value):
    assert prefers_json([b"Host: a", b"accept: " + value.encode()])


@pytest.mark.parametrize(
    "value",
    [
        *[BROWSER, "*/*", "", "application/*", "text/html, application/json", "application/json;q=0"],
        *[
            "application/json;q=0.5, text/plain",
            "application/jsonp",
            "text/json-like",
            "application/json/x",
            "\xff",
        ],
    ],
)
def test_other_client_gets_text(value):
    assert not prefers_json([b"Host: a", b"Accept: " + value.encode("latin-1")])


def test_lines_of_accept_are_one_list():
    assert prefers_json([b"Accept: text/html;q=0.5", b"ACCEPT:application/json"])
    assert not prefers_json([b"Accept: text/html", b"Accept: application/json"])


def test_no_other_field_is_taken_for_accept():
    assert not prefers_json([b"Accept-Post: application/json", b"X: Accept: application/json", b""])
