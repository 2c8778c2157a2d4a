"""The story, to see: a legacy Flask app, a browser that caches, and the proxy between them.

`play` tells it, on the `stage` the processes run, `browser` and `cache` are the client, `app` is the app
(imported by gunicorn alone: Flask is not needed to run the proxy), `report` says it in text.
"""

from __future__ import annotations

from proxy.demo.play import run

__all__ = ["run"]
