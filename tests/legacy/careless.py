"""Apps that do not look at the method, nor at what they are sent: `app` in plain WSGI, `django_app` in Django.

Each answer names the path that it was asked for, so a test can tell an answer that belongs to somebody else.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from typing import Any

PATH_FIELD = "X-Path"
PAUSE_S = 0.003  # so the content comes in a segment of its own
BLOCK = 64
STATUSES = {"204": "204 No Content", "304": "304 Not Modified"}


def content_of(path: str) -> bytes:
    """What the app answers there; below `/evil/` somebody has uploaded what looks like another answer."""
    if path.startswith("/evil/"):
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nEVIL"
    return b"for %b\n" % path.encode() * 3


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with content whatever the method and the status are, and leave what was sent unread.

    `/file/...` is handed to the server's own way of sending files; elsewhere the head leaves before the content.
    """
    path = environ["PATH_INFO"]
    content = content_of(path)
    kind = path.split("/")[1]
    fields = [("Content-Type", "text/plain"), (PATH_FIELD, path)]
    if kind not in STATUSES:
        fields.append(("Content-Length", str(len(content))))
    write = start_response(STATUSES.get(kind, "200 OK"), fields)
    if kind == "file" and "wsgi.file_wrapper" in environ:
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(content), BLOCK)
        return wrapped
    write(b"")
    return late(content)


def late(content: bytes) -> Iterator[bytes]:
    yield b""
    time.sleep(PAUSE_S)
    yield content


def make_django_app() -> Any:
    """Make a Django app that answers downloads with `FileResponse`, and reads no upload."""
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import FileResponse, HttpRequest
    from django.urls import re_path

    def download(request: HttpRequest) -> FileResponse:
        response = FileResponse(io.BytesIO(content_of(request.path)), content_type="text/plain")
        response[PATH_FIELD] = request.path
        return response

    settings.configure(
        ALLOWED_HOSTS=["*"], SECRET_KEY="x", ROOT_URLCONF=(re_path("", download),), MIDDLEWARE=[]
    )
    django.setup()
    return get_wsgi_application()
