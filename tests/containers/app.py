"""A legacy app with an answer that takes as long as the test wants, for the demo image to run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from flask import Flask, Response, jsonify

app = Flask(__name__)
_finish = threading.Event()
_FINISH_AT_LATEST_S = 20


@app.get("/")
def page() -> Response:
    response = Response("<p>a page", content_type="text/html")
    response.headers["Cache-Control"] = "max-age=60"
    return response


@app.get("/file/last_uploaded")
def last_uploaded() -> Response:
    return jsonify(name="first.txt", uid=os.getuid())


@app.get("/slow")
def slow() -> Response:
    def content() -> Iterator[str]:
        yield "begun, "
        yield "finished" if _finish.wait(_FINISH_AT_LATEST_S) else "never told to finish"

    return Response(content(), content_type="text/plain")


@app.get("/finish")
def finish() -> str:
    _finish.set()
    return "told"
