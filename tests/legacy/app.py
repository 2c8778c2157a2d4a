"""A legacy Flask app for tests: conditional and range requests as Werkzeug does them, and a log of arrivals.

It runs unchanged under every WSGI server of `servers`. Its one entity tag never changes although its content
does, as in the apps that marked tags are for.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, abort, jsonify, make_response, request, send_file

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

ETAG = "v1"
LAST_MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
LOG_PATH = "/_log"
FILE_CONTENT = bytes(range(256)) * 4


def create_app() -> Flask:
    """Make the app; its state is its own."""
    app = Flask(__name__, static_folder=None)
    serials = _Serials()

    @app.get("/api/data")
    @app.get("/größe")
    @app.get("/dir/")
    @app.get("/unprotected")
    def data() -> Response:
        response = make_response(
            f'{{"serial": {serials.next():08d}}}\n', {"Content-Type": "application/json"}
        )
        return _conditional(response)

    @app.get("/files/<path:name>")
    def nested(name: str) -> ResponseReturnValue:
        return jsonify(name=name)

    @app.put("/api/data")
    @app.post("/api/data")
    def replace() -> ResponseReturnValue:
        if _precondition_fails():
            abort(412)
        return "", 204

    @app.get("/page")
    def page() -> Response:
        response = make_response("<!DOCTYPE html><title>page</title>\n")
        response.headers["Cache-Control"] = "public, max-age=600"
        return _conditional(response)

    @app.get("/file/download/<name>")
    def download(name: str) -> Response:
        return send_file(
            io.BytesIO(FILE_CONTENT),
            download_name=name,
            as_attachment=True,
            etag=ETAG,
            last_modified=784111777,
        )

    @app.route("/status/<int:status>", methods=["GET", "POST"])
    def status(status: int) -> ResponseReturnValue:
        location = {"Location": "/api/data"} if 300 <= status < 400 else {}
        return f"status {status}\n", status, {"Cache-Control": "public, max-age=600", **location}

    @app.get("/old")
    def old() -> ResponseReturnValue:
        return "", 304

    app.wsgi_app = _Log(_MethodOverride(app.wsgi_app))  # type: ignore[method-assign]
    return app


def _conditional(response: Response) -> Response:
    response.set_etag(ETAG)
    response.headers["Last-Modified"] = LAST_MODIFIED
    length = len(response.get_data())
    return response.make_conditional(request, accept_ranges=True, complete_length=length)  # type: ignore[return-value]


def _precondition_fails() -> bool:
    """The origin's side of RFC 9110 section 13.1: the resource exists, its tag is `ETAG`."""
    if request.if_match and not request.if_match.contains(ETAG):
        return True
    if request.if_none_match and (
        request.if_none_match.star_tag or request.if_none_match.contains_weak(ETAG)
    ):
        return True
    since = request.if_unmodified_since
    return since is not None and since.timestamp() < 784111777


class _Serials:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._lock:
            self._last += 1
            return self._last


WSGIApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class _MethodOverride:
    """The middleware of Flask's documentation, as legacy apps have it."""

    def __init__(self, app: WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
        if method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"):
            environ["REQUEST_METHOD"] = method
        return self._app(environ, start_response)


class _Log:
    """Notes what each request came with, and tells it at `LOG_PATH`: all since it was last asked."""

    def __init__(self, app: WSGIApp) -> None:
        self._app = app
        self._entries: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            if environ["PATH_INFO"] == LOG_PATH:
                response = jsonify_outside_app(self._entries)
                self._entries = []
                return response(environ, start_response)
            self._entries.append(_entry(environ))
        return self._app(environ, start_response)


def jsonify_outside_app(value: Any) -> Response:
    """Make a JSON response where there is no application context."""
    import json

    return Response(json.dumps(value), content_type="application/json")


def _entry(environ: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": environ["REQUEST_METHOD"],
        # gunicorn and Werkzeug say RAW_URI, waitress and uWSGI REQUEST_URI: the target as it came.
        "target": environ.get("RAW_URI") or environ.get("REQUEST_URI"),
        "path_info": environ["PATH_INFO"],
        "script_name": environ.get("SCRIPT_NAME", ""),
        "fields": {
            key[5:].replace("_", "-").lower(): value
            for key, value in environ.items()
            if key.startswith("HTTP_")
        },
    }


app = create_app()
