"""The legacy application of the story: nobody thought of caches when it was written, and nobody edits it now.

An ordinary Flask app with server-side state, left as such apps are: the view that scripts ask again and
again says nothing about freshness, so a cache may keep its answer for as long as it likes. Internet Explorer does. Another
view gives a lifetime, as many apps do for all of their answers: every browser repeats that one.
"""

from __future__ import annotations

import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from flask import Flask, Response, abort, jsonify, render_template, request, send_from_directory
from werkzeug.utils import secure_filename

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


CLOCK_LIFETIME_S: Final = 600


def create_app(uploads: str, sites: tuple[str, str] | None = None) -> Flask:
    """Make the app.

    Args:
        uploads: an existing directory for what is uploaded. The app remembers the order in memory, so
            it must run in one process.
        sites: where the pages are without the proxy and behind it, so that they name each other; as
            `http://127.0.0.1:8080`.
    """
    app = Flask(__name__)
    directory = Path(uploads)
    names: list[str] = []
    lock = Lock()

    _add_pages(app, sites)

    @app.post("/file/upload")
    def upload() -> ResponseReturnValue:
        file = request.files.get("file")
        name = secure_filename(file.filename or "") if file else ""
        if file is None or not name:
            abort(400, "a form field 'file' with a file name is needed")
        with lock:
            file.save(directory / name)
            names.append(name)
        return jsonify(name=name), 201

    @app.get("/file/last_uploaded")
    def last_uploaded() -> ResponseReturnValue:
        with lock:
            return jsonify(name=names[-1] if names else None, uploads=len(names))

    @app.get("/file/download/<name>")
    def download(name: str) -> Response:
        return send_from_directory(directory, name, as_attachment=True)

    return app


def _add_pages(app: Flask, sites: tuple[str, str] | None) -> None:
    @app.get("/")
    def page() -> str:
        return render_template("index.html", sites=sites)

    @app.get("/both")
    def both() -> str:
        if sites is None:
            abort(404)
        return render_template("both.html", sites=sites)

    @app.get("/clock")
    def clock() -> Response:
        answer = _time()
        answer.cache_control.max_age = CLOCK_LIFETIME_S
        return answer

    @app.get("/clock/now")
    def now() -> Response:
        answer = _time()
        answer.cache_control.no_store = True
        return answer


def _time() -> Response:
    now_s = time.time()
    return jsonify(time=time.strftime("%H:%M:%S", time.localtime(now_s)), seconds=now_s)
