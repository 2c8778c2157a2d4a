"""`python -m tests.legacy.run SERVER FD APP`: an app on a bound socket, for servers without a command that takes one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

THREADS = 8


def waitress(app: Any, listening: socket.socket) -> None:
    import waitress

    waitress.serve(app, sockets=[listening], threads=THREADS, _quiet=True)


def werkzeug(app: Any, listening: socket.socket) -> None:
    from werkzeug.serving import make_server

    make_server("127.0.0.1", 0, app, threaded=True, fd=listening.detach()).serve_forever()


def cheroot(app: Any, listening: socket.socket) -> None:
    from cheroot import wsgi

    class Server(wsgi.Server):
        def bind(self, *_: object) -> None:
            self.socket = listening

    Server(("127.0.0.1", 0), app, numthreads=THREADS).start()


def gevent(app: Any, listening: socket.socket) -> None:
    from gevent import monkey

    monkey.patch_all()
    from gevent import pywsgi
    from gevent import socket as cooperative

    pywsgi.WSGIServer(cooperative.socket(fileno=listening.detach()), app, log=None).serve_forever()


def eventlet(app: Any, listening: socket.socket) -> None:
    import eventlet

    eventlet.monkey_patch()
    from eventlet import wsgi
    from eventlet.green import socket as cooperative

    wsgi.server(cooperative.socket(fileno=listening.detach()), app, log_output=False)


def runserver(app: Any, listening: socket.socket) -> None:
    """Django's, as `manage.py runserver` starts it."""
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = "localhost", listening.getsockname()[1]
    server.setup_environ()
    server.set_app(app)
    server.serve_forever()


SERVERS: dict[str, Callable[[Any, socket.socket], None]] = {
    server.__name__: server for server in (waitress, werkzeug, cheroot, gevent, eventlet, runserver)
}


def main(name: str, descriptor: int, app: str) -> None:
    """Serve until the process is ended."""
    module, _, attribute = app.partition(":")
    found = getattr(import_module(module), attribute.removesuffix("()"))
    SERVERS[name](found() if attribute.endswith("()") else found, socket.socket(fileno=descriptor))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
