"""The legacy application of the story: nobody thought of caches when it was written, and nobody edits it now.

An ordinary Flask app with server-side state, left as such apps are: the view that scripts ask again and
again says nothing about freshness, so a cache may keep its answer for as long as it likes.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from flask import Flask, Response, abort, jsonify, render_template, request, send_from_directory
from werkzeug.utils import secure_filename

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


def create_app(uploads: str) -> Flask:
    """Make the app.

    Args:
        uploads: an existing directory for what is uploaded. The app remembers the order in memory, so
            it must run in one process.
    """
    app = Flask(__name__)
    directory = Path(uploads)
    names: list[str] = []
    lock = Lock()

    @app.get("/")
    def page() -> str:
        return render_template("index.html")

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
