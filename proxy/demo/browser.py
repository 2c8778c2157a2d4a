"""The browser of the demo: sends what jQuery sends, through a cache like Internet Explorer's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from proxy.demo.cache import InternetExplorerCache, Response

if TYPE_CHECKING:
    from proxy.message.fields import Field

_TIMEOUT = aiohttp.ClientTimeout(total=20)
XHR_FIELDS: tuple[Field, ...] = (
    (b"Accept", b"application/json, text/javascript, */*; q=0.01"),
    (b"X-Requested-With", b"XMLHttpRequest"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script got.

    Attributes:
        response: as the script sees it.
        is_from_cache: the browser sent no request for it.
    """

    response: Response
    is_from_cache: bool

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Read the content as JSON."""
        return json.loads(self.response.content)


class Browser:
    """One session of a browser on one site. Use it as an asynchronous context manager."""

    def __init__(self, site: str) -> None:
        """Open nothing yet.

        Args:
            site: scheme and authority, as `http://127.0.0.1:8080`.
        """
        self.site = site
        self._cache = InternetExplorerCache()
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, fields: tuple[Field, ...] = XHR_FIELDS) -> Answer:
        """Send a GET as a script does, or answer it from the cache.

        Args:
            path: of the site, as `/file/last_uploaded`.
            fields: of the request; by default those of a jQuery XMLHttpRequest.

        Raises:
            aiohttp.ClientError, TimeoutError: the site does not answer.
        """
        url = self.site + path
        stored = self._cache.find_fresh(url, time.time())
        if stored is not None:
            return Answer(stored, is_from_cache=True)
        conditions = self._cache.conditions(url)
        headers = [(name.decode(), value.decode("latin-1")) for name, value in (*fields, *conditions)]
        async with self._session.get(url, headers=headers, allow_redirects=False) as reply:
            response = Response(reply.status, reply.raw_headers, await reply.read())
        return Answer(self._cache.take("GET", url, fields, response, time.time()), is_from_cache=False)

    async def ask_app(self, path: str, fields: tuple[Field, ...] = XHR_FIELDS) -> Response:
        """Send a GET past the cache: return what the app says now.

        Raises:
            aiohttp.ClientError, TimeoutError: the site does not answer.
        """
        headers = [(name.decode(), value.decode("latin-1")) for name, value in fields]
        async with self._session.get(self.site + path, headers=headers, allow_redirects=False) as reply:
            return Response(reply.status, reply.raw_headers, await reply.read())

    async def upload(self, path: str, name: str, content: bytes) -> int:
        """Post a file as a form does.

        Returns:
            The status of the response.
        """
        url = self.site + path
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name, content_type="text/plain")
        async with self._session.post(
            url, data=form, headers=[("X-Requested-With", "XMLHttpRequest")]
        ) as reply:
            response = Response(reply.status, reply.raw_headers, await reply.read())
        self._cache.take("POST", url, (), response, time.time())
        return response.status
