"""The story, to see: a legacy Flask app, a browser that caches, and the proxy between them.

`play` tells it scene by scene (`scene`), `stage` runs the processes, `browser` and `cache` are the client, `app` is the app
(gunicorn alone imports it: the proxy runs without Flask), and `report` turns it into text.
"""

from __future__ import annotations

from proxy.demo.play import run

__all__ = ["run"]
