"""Real servers as the app: what a request carries must not change what they answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gateway import bench
from tests.support.peer import ask
from tests.support.ports import free_port
from tests.support.programs import program, running

NGINX = """
daemon off; master_process off; pid {directory}/pid; error_log {directory}/error;
events {{}}
http {{
    access_log off; types {{ application/json json; }}
    gzip on; gzip_types application/json; gzip_min_length 1;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    server {{ listen 127.0.0.1:{port}; root {directory}; }}
}}
"""

pytestmark = pytest.mark.peer


@pytest.mark.parametrize(("via", "is_compressed"), [("off", True), ("on", False)])
async def test_nginx_as_the_app_compresses_as_it_does_without_the_proxy(
    via: str, is_compressed: bool, tmp_path: Path
) -> None:
    """Issue 16.7: its `gzip_proxied` is off unless it is told, and `Via` says that a proxy asks."""
    port = free_port()
    (tmp_path / "a.json").write_text("[" + "1," * 1000 + "1]")
    (tmp_path / "nginx.conf").write_text(NGINX.format(directory=tmp_path, port=port))
    request = b"GET /a.json HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    server = running(
        port, program("nginx"), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "start")
    )
    async with server, bench(upstream=f"http://127.0.0.1:{port}", rules=(), via=via) as b:
        assert b"\r\nContent-Encoding: gzip\r\n" in (await ask(("127.0.0.1", port), request)).data
        answer = await b.exchange(request)
        assert (b"\r\nContent-Encoding: gzip\r\n" in answer.data) is is_compressed
