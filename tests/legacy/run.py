"""`python -m tests.legacy.run SERVER FD`: the legacy app on a bound socket, for servers without a command."""

from __future__ import annotations

import socket
import sys

from tests.legacy.app import app


def main(server: str, descriptor: int) -> None:
    """Serve until the process is ended."""
    if server == "waitress":
        import waitress

        waitress.serve(app, sockets=[socket.socket(fileno=descriptor)], threads=4, _quiet=True)
    else:
        from werkzeug.serving import make_server

        make_server("127.0.0.1", 0, app, threaded=True, fd=descriptor).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
