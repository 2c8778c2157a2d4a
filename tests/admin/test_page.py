"""The page for people: it loads under a policy that forbids all but its own files, and its parts fit together."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from tests.admin.standing import AdminTestServer, Service

FILES = {
    name: resources.files("proxy.admin").joinpath(name).read_text("utf-8")
    for name in ("page.html", "page.css", "page.js", "audit.js", "recent.js")
}
HTML, CSS, PAGE_JS = FILES["page.html"], FILES["page.css"], FILES["page.js"]
JS = "".join(text for name, text in FILES.items() if name.endswith(".js"))
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """What is in the page: ids, classes, attributes, and whether every tag is closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(HTML)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


PAGE = Page()


@pytest.fixture
async def client(aiohttp_client):
    return await aiohttp_client(AdminTestServer(Service()))


@pytest.mark.parametrize(
    ("path", "content_type", "text"),
    [
        ("/", "text/html", HTML),
        ("/page.css", "text/css", CSS),
        *((f"/{name}", "text/javascript", text) for name, text in FILES.items() if name.endswith(".js")),
    ],
)
async def test_files_are_served_as_they_are(client, path, content_type, text):
    answer = await client.get(path)
    assert (answer.status, answer.content_type, answer.charset) == (200, content_type, "utf-8")
    assert await answer.text() == text


async def test_policy_forbids_everything_but_the_pages_own_files(client):
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in (await client.get("/")).headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    for directive in ("form-action", "base-uri", "frame-ancestors"):
        assert policy[directive] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("style", "script", "connect")} == {"'self'"}
    assert not [value for value in policy.values() if "unsafe" in value or "http" in value or "*" in value]


def test_nothing_in_the_page_needs_more_than_the_policy_allows():
    assert not [
        name for _, attributes in PAGE.tags for name in attributes if name.startswith("on") or name == "style"
    ]
    assert "style" not in {tag for tag, _ in PAGE.tags}
    scripts = [attributes["src"] for tag, attributes in PAGE.tags if tag == "script"]
    assert scripts == ["/page.js", "/audit.js", "/recent.js"]
    assert not re.search(r"\.style\b|innerHTML|outerHTML|insertAdjacentHTML|eval\(|new Function", JS)
    assert "@import" not in CSS
    assert "url(" not in CSS


async def test_everything_that_the_page_loads_or_links_to_is_there(client):
    """And the browser asks for no icon that is not."""
    loaded = [value for value in (*PAGE.values("src"), *PAGE.values("href")) if not value.startswith("data:")]
    fetched = re.findall(r"[\"'`](/[a-z./]*)[?\"'`]", JS)
    assert {"/page.css", "/page.js"} <= set(loaded)
    assert {"/readyz", "/api/rules", "/api/explain", "/api/audit", "/api/audit/reset", "/api/recent"} <= set(
        fetched
    )
    for path in {*loaded, *fetched}:
        # 400: /api/explain without a target; 405: /api/audit/reset with GET
        assert (await client.get(path)).status in {200, 400, 405}, path
    (icon,) = [attributes["href"] for _, attributes in PAGE.tags if attributes.get("rel") == "icon"]
    assert icon.startswith("data:")


def test_every_id_that_the_script_asks_for_is_in_the_page_once():
    wanted = re.findall(r"\bat\(\"([^\"]+)\"\)", JS)
    ids = PAGE.values("id")
    assert wanted
    assert set(wanted) <= set(ids)
    assert len(set(ids)) == len(ids)
    assert set(PAGE.values("aria-labelledby")) <= set(ids)


def test_tags_are_closed_and_the_page_says_its_language():
    assert PAGE.open == []
    assert next(attributes for tag, attributes in PAGE.tags if tag == "html") == {"lang": "en"}


async def test_form_asks_with_the_parameters_that_explain_knows(client):
    names = set(PAGE.values("name")) - {"viewport"}
    assert {"method", "target", "header", "status", "response_header"} == names
    query = "method=GET&target=/&header=A:b&status=200&response_header=C:d&format=text"
    assert (await client.get(f"/api/explain?{query}")).status == 200


async def test_keys_that_the_script_reads_are_told(client):
    """One that is renamed would show as `undefined`."""
    ready = await (await client.get("/readyz")).json()
    rules = await (await client.get("/api/rules")).json()
    config = await (await client.get("/api/config")).json()
    for name, told in (
        ("ready", ready),
        ("rules", rules),
        ("rule", rules["rules"][0]),
        ("config", config),
        ("settings", config["settings"]),
    ):
        read = set(re.findall(rf"\b{name}\.([a-z_]+)", PAGE_JS)) - {"map", "length"}
        assert read
        assert read <= set(told), name


def test_each_state_that_the_script_tells_has_a_colour_of_its_own():
    """Refused rules are no outage: amber, not red."""
    (kinds,) = re.findall(r'ready\.ready \? \(ready\.notes\.length \? "(\w+)" : "(\w+)"\) : "(\w+)"', PAGE_JS)
    assert kinds == ("warn", "good", "bad")
    for kind in kinds:
        assert f"#state.{kind} {{ border-color: var(--{kind})" in CSS
        assert CSS.count(f"--{kind}: #") == 2  # in the light and in the dark
