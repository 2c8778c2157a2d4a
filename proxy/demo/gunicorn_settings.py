"""Settings of gunicorn for the demo, read by its `-c` option: versions that lack one of them ignore it."""

from __future__ import annotations

workers = 1  # the app keeps its state in memory
threads = 4
accesslog = None
errorlog = "-"
loglevel = "warning"
graceful_timeout = 2
control_socket_disable = True  # it would write into the home directory
