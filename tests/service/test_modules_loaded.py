"""An idle process holds what its modules hold: `serve` loads nothing that serving does not need."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.support.serving import sidecar

ROOM_FOR = {  # what is installed beside Python; each costs every process that serves
    *(
        "aiohappyeyeballs",
        "aiohttp",
        "aiosignal",
        "attr",
        "frozenlist",
        "idna",
        "multidict",
        "propcache",
        "yarl",
    ),
    *("_brotli", "brotli", "brotlicffi"),  # aiohttp takes them where they are
    *("annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"),
    *("click", "prometheus_client", "re2", "uvloop", "yaml"),
}
NO_ROOM_FOR = {  # what commands, questions to the admin listener and other processes load for themselves
    *(
        f"audit.{name}"
        for name in ("commands", "explained", "har", "proposals", "report", "reporting", "verdicts")
    ),
    *(f"rules.tools.{name}" for name in ("against", "commands", "explain", "explain_text")),
    *("demo", "rules.loading.json_schema", "service.audit_client", "service.healthcheck", "service.live"),
}
PROFILE = {"PYTHONPROFILEIMPORTTIME": "1"}


def imported(stderr: str) -> set[str]:
    """Read what `PYTHONPROFILEIMPORTTIME` has Python write: a line for each module."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", stderr, re.MULTILINE))


def imported_by_nothing() -> set[str]:
    """Return what any program loads here: site packages may start with hooks, such as coverage's."""
    command = [sys.executable, "-P", "-X", "importtime", "-c", "pass"]
    return imported(subprocess.run(command, check=True, capture_output=True, text=True).stderr)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_idle_processes_have_loaded_only_what_serving_needs(app, rules, workers):
    async with sidecar(app.url, rules, "--workers", workers, env=PROFILE) as running:
        assert await running.is_ready()
        await running.get("/")
        running.process.terminate()
        assert await running.ended() == 0
    loaded = imported("\n".join(running.log.read))
    assert "proxy.gateway.server" in loaded
    assert not {f"proxy.{name}" for name in NO_ROOM_FOR} & loaded
    packages = {name.partition(".")[0] for name in loaded - imported_by_nothing()}
    installed = {name for name in packages if find_spec(name)}  # Python tells also what it looked for in vain
    assert installed - sys.stdlib_module_names - {"proxy"} <= ROOM_FOR


def test_import_of_aiohttp_reads_no_certificates_and_leaves_the_environment_alone(tmp_path):
    """They are 2 MiB of each process, for a client that the proxy does not use; its own TLS still has them."""
    import trustme

    bundle = tmp_path / "certificates.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    script = (
        "import os, ssl, proxy.service.serve, aiohttp.connector\n"
        "for context in aiohttp.connector._SSL_CONTEXT_VERIFIED, ssl.create_default_context():\n"
        "    print(context.cert_store_stats()['x509'], context.verify_mode.name, os.environ['SSL_CERT_FILE'])\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"SSL_CERT_FILE": str(bundle), "SSL_CERT_DIR": str(tmp_path / "none")},
    ).stdout
    assert told.splitlines() == [f"{number} CERT_REQUIRED {bundle}" for number in (0, 1)]


def test_environment_without_a_certificates_file_stays_without():
    script = "import os, proxy.message.syntax; print('SSL_CERT_FILE' in os.environ)"
    told = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env={}
    ).stdout
    assert told == "False\n"
