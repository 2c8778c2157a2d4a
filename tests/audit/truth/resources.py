"""An app of many routes, each of its own kind: what it answers is a function of a version and a user.

The version of a route that changes is the number of the step; content names path, version and user, so that whoever sees
an answer can tell whether it is old or somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate

from proxy.message.fields import Field

Version = Callable[[int], int]
LONG_AGO = "Thu, 01 Dec 1994 16:00:00 GMT"
_FAR_S = 3600


@dataclass(frozen=True)
class Resource:
    """One route.

    Attributes:
        fields: of the response; `{date+N}` stands for a date N seconds from now, `{v}` for the version.
        version: of the content, by step.
        by_user: content depends on the credentials.
        etag: `right` changes with the content, `wrong` does not.
        sends: fields of every request.
    """

    path: str
    fields: dict[str, str] = field(default_factory=dict)
    version: Version = lambda step: 0
    by_user: bool = False
    status: Callable[[int], int] = lambda step: 200
    etag: str = ""
    sends: dict[str, str] = field(default_factory=dict)

    def content(self, step: int, user: str) -> bytes:
        owner = user if self.by_user else "all"
        return f"{self.path} v{self.version(step)} {owner}".encode()

    def answer(self, step: int, user: str, now_s: float) -> tuple[int, list[Field], bytes]:
        version = self.version(step)
        fields = {"Date": formatdate(now_s, usegmt=True), "Content-Type": "application/json", **self.fields}
        if self.etag:
            fields["ETag"] = f'"{version if self.etag == "right" else 0}"'
        for name, value in fields.items():
            if value.startswith("date+"):
                fields[name] = formatdate(now_s + int(value[5:]), usegmt=True)
            fields[name] = fields[name].replace("{v}", str(version))
        pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
        return self.status(step), pairs, self.content(step, user)


CONTROLS: dict[str, dict[str, str]] = {
    "none": {},
    "long": {"Cache-Control": "max-age=60"},
    "short": {"Cache-Control": "max-age=1"},
    "shared": {"Cache-Control": "s-maxage=60"},
    "shared-only": {"Cache-Control": "max-age=0, s-maxage=60"},
    "private": {"Cache-Control": "private, max-age=60"},
    "private-alone": {"Cache-Control": "private"},
    "public": {"Cache-Control": "public"},
    "no-store": {"Cache-Control": "no-store"},
    "no-cache": {"Cache-Control": "no-cache"},
    "zero": {"Cache-Control": "max-age=0, must-revalidate"},
    "must-revalidate": {"Cache-Control": "max-age=60, must-revalidate"},
    "must-understand": {"Cache-Control": "no-store, must-understand, max-age=60"},
    "qualified": {"Cache-Control": 'no-cache="Set-Cookie", max-age=60'},
    "private-field": {"Cache-Control": 'private="X-Name", max-age=60'},
    "expires": {"Expires": f"date+{_FAR_S}"},
    "expired": {"Expires": LONG_AGO},
    "expires-zero": {"Expires": "0"},
    "modified": {"Last-Modified": LONG_AGO},
    "modified-now": {"Last-Modified": "date+0"},
    "pragma": {"Pragma": "no-cache"},
    # In this order, as nginx before 1.23 obeyed the first of the two that said something; since then this field wins.
    "accel": {"X-Accel-Expires": "60", "Cache-Control": "no-store"},
    "surrogate": {"Cache-Control": "no-store", "Surrogate-Control": "max-age=60"},
    "classic": {
        "Cache-Control": "no-store, no-cache, must-revalidate, post-check=0, pre-check=0",
        "Pragma": "no-cache",
    },
}


def resources() -> Iterator[Resource]:
    """Every kind of route."""
    for name, fields in CONTROLS.items():
        yield Resource(f"/constant/{name}", fields)
        yield Resource(f"/changing/{name}", fields, version=each)
        yield Resource(f"/user/{name}", fields, by_user=True)
    long = CONTROLS["long"]
    yield Resource("/slow/short", CONTROLS["short"], version=every_fourth)
    yield Resource("/slow/long", long, version=every_fourth)
    yield Resource("/both/long", long, version=each, by_user=True)
    yield Resource("/both/private", CONTROLS["private"], version=each, by_user=True)
    yield Resource("/vary/cookie", {**long, "Vary": "Cookie"}, by_user=True)
    yield Resource("/vary/accept", {**long, "Vary": "Accept"}, version=each)
    yield Resource("/vary/all", {**long, "Vary": "*"}, version=each)
    yield Resource("/token/long", long, by_user=True, sends={"Authorization": "Bearer {user}"})
    yield Resource(
        "/token/public",
        {"Cache-Control": "public, max-age=60"},
        by_user=True,
        sends={"Authorization": "Bearer {user}"},
    )
    yield Resource("/tagged/right", {"Cache-Control": "no-cache"}, version=each, etag="right")
    yield Resource("/tagged/long", long, version=each, etag="right")
    yield Resource("/tagged/wrong", long, version=each, etag="wrong")
    yield Resource("/redirect/permanent", {"Location": "/to/{v}"}, version=each, status=lambda _: 301)
    yield Resource("/redirect/found", {"Location": "/to/{v}"}, version=each, status=lambda _: 302)
    yield Resource("/redirect/kept", {**long, "Location": "/to/{v}"}, version=each, status=lambda _: 302)
    yield Resource("/error/gone", {}, version=each, status=lambda _: 404)
    yield Resource("/error/kept", long, version=each, status=lambda _: 404)
    yield Resource("/error/server", {}, version=each, status=lambda _: 500)
    yield Resource("/error/heals", long, version=each, status=lambda step: 404 if step == 0 else 200)
    yield Resource("/cookie/set", {**long, "Set-Cookie": "a=1"}, version=each)


def each(step: int) -> int:
    return step


def every_fourth(step: int) -> int:
    return step // 4
