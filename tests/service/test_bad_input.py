"""What cannot be used keeps `serve` from starting, and is told whole: every mistake, each with its line.

Exit code 2 for a flag or variable that cannot be read, 78 for rules or files that cannot be used. Nothing is
listened on before everything is known to be right. An app that is not there yet is no mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import cli
from proxy.service import fleet, logs, serve
from tests.rules.golden_files import read_all
from tests.support.peer import XHR, request
from tests.support.ports import free_port, free_ports
from tests.support.serving import RULES, App, Sidecar, command, connect, serve_command, sidecar
from tests.support.waiting import until

GOOD = b"version: 1\nrules: []\n"
APP = "http://127.0.0.1:1"
HOST = "127.77.0.1"  # no other test listens there, whatever runs at the same time
GOLDEN = read_all("golden")

ALL_AT_ONCE = b"""\
version: 1
version: 1
rulez: []
rules:
  - name: a
    match: {method: GET, paths: [api, "/b"], path_regexes: ["(", "/ok"]}
    policy: strickt
  - name: a
    policy: 7
    match: {response: {status: [99, 200]}}
policies:
  mine: {set: {Bad Name: x}}
tests:
  - {request: {path: api}}
"""
MISTAKES = {
    "one of each in one file": (
        ALL_AT_ONCE,
        [
            ":2:1: version: duplicate key; the first is in line 1",
            ":3:1: rulez: unknown key, did you mean 'rules'?",
            ":6:13: rules[0].match.method: unknown key, did you mean 'methods'?",
            ":6:34: rules[0].match.paths[0]: found 'api', allowed: a glob that begins with '/', did you mean '/api'?",
            ":6:61: rules[0].match.path_regexes[0]: bad regular expression '(': missing )",
            ":7:13: rules[0].policy: unknown policy 'strickt', did you mean 'strict'?",
            ":8:11: rules[1].name: found 'a' again, allowed: a name that no other rule has; rules[0] in line 5 has this one",
            ":9:13: rules[1].policy: found 7, allowed: text; put it in quotes if it is meant as text",
            ":10:33: rules[1].match.response.status[0]: found 99, allowed: 100 to 599, or a class such as '3xx'",
            (
                ":12:16: policies.mine.set['Bad Name']: 'Bad Name' is no field name, allowed: letters, digits and "
                "!#$%&'*+-.^_`|~"
            ),
            ":14:5: tests[0]: the key 'expect' is missing",
            (
                ":14:22: tests[0].request.path: found 'api', allowed: a path that begins with '/', as the client "
                "sends it; the request target is neither a path nor an absolute http URI"
            ),
        ],
    ),
    "nothing but comments": (
        b"# rules to come\n\n",
        [":1:1: the file is empty, allowed: at least 'version: 1' and 'rules:'"],
    ),
    "a tab": (
        b"version: 1\nrules:\n\t- name: a\n",
        [":3:1: found a tab, allowed: spaces; YAML indents with spaces only"],
    ),
    "Latin-1": (
        b"version: 1\nrules:\n  - name: caf\xe9\n",
        [":3:14: found the byte 0xe9 that is not UTF-8, allowed: UTF-8; save the file with that encoding"],
    ),
    "UTF-16": (
        "version: 1\nrules: []\n".encode("utf-16"),
        [":1:1: found UTF-16, allowed: UTF-8; save the file with that encoding"],
    ),
    "two tests that fail": (
        GOOD + b"tests:\n  - {request: {path: /}, expect: {policy: strict}}\n"
        b"  - {request: {path: /}, expect: {headers: {Pragma: no-cache}}}\n",
        [
            ":4:43: tests[0].expect.policy: test failed: expected strict, got pass",
            ":5:53: tests[1].expect.headers.Pragma: test failed: expected 'no-cache', got no such field",
        ],
    ),
    "a directory": (None, [": found a directory, allowed: a file"]),
    "a link to nothing": (None, [": no such file; `nocache-proxy init` writes one"]),
}


@pytest.fixture
def rules(tmp_path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_bytes(GOOD)
    return path


@asynccontextmanager
async def refused(*words: str, free: tuple[int, ...] = ()):
    """Run a `serve` that must not start; nobody may reach these ports meanwhile, however often one tries."""
    async with command(*words) as running:
        reached = asyncio.ensure_future(first_reached(free))
        await running.ended()
        reached.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await reached is None
        assert running.out.read == []
        assert not any("Traceback" in line or "listening on" in line for line in running.log.read)
        yield running


async def first_reached(ports: tuple[int, ...]) -> int:
    while True:
        for port in ports:
            with contextlib.suppress(OSError):
                peer = await connect((HOST, port))
                peer.close()
                return port
        await asyncio.sleep(0.005)


# Rules


@pytest.mark.parametrize(("kind", "workers"), [(kind, "1") for kind in MISTAKES] + [("a tab", "2")])
async def test_process_ends_with_every_mistake_and_its_place_and_nobody_could_connect(rules, kind, workers):
    data, expected = MISTAKES[kind]
    rules.unlink()
    if data is not None:
        rules.write_bytes(data)
    elif kind == "a directory":
        rules.mkdir()
    else:
        rules.symlink_to("nowhere")
    listen, admin = free_ports(2)
    flags = ("--listen", f"{HOST}:{listen}", "--admin", f"{HOST}:{admin}", "--workers", workers)
    async with refused(*serve_command(APP, rules, *flags), free=(listen, admin)) as running:
        assert running.process.returncode == 78
        assert running.log.read == [f"{rules}{line}" for line in expected]


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden.name for golden in GOLDEN])
def test_each_broken_file_is_told_as_check_tells_it_before_anything_is_listened_on(
    golden, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_bytes(golden.data)
    result, bound = run_in_process(monkeypatch, "--rules", "rules.yaml")
    assert (result.exit_code, result.stdout, bound) == (78, "", [])
    assert result.stderr == golden.expected + "\n"
    checked = CliRunner().invoke(cli, ["check", "rules.yaml"])
    assert checked.exit_code == 1
    assert checked.stderr.startswith(result.stderr)


def run_in_process(monkeypatch, *flags: str):
    """Run `serve` up to its first bind, which fails; return what it printed and what it wanted to bind."""
    bound: list[str] = []

    def bind(address: object, **options: object) -> socket.socket:
        bound.append(str(address))
        raise serve.SettingsError(f"bind {address}")

    monkeypatch.setattr(logs, "configure", lambda form, level: None)
    monkeypatch.setattr(serve, "bind", bind)
    monkeypatch.setattr(fleet, "bind", bind)
    return CliRunner().invoke(cli, ["serve", "--upstream", APP, *flags]), bound


def test_the_bind_that_must_not_be_reached_is_reached_with_rules_that_can_be_used(rules, monkeypatch):
    """Else the test above could not fail."""
    result, bound = run_in_process(monkeypatch, "--rules", str(rules))
    assert (result.exit_code, bound) == (78, ["127.0.0.1:9901"])
    _, bound = run_in_process(monkeypatch, "--rules", str(rules), "--admin", "off")
    assert bound == ["127.0.0.1:8080"]


# Settings


USAGE = [
    (["--upstream", "ftp://app"], "'ftp://app' is no upstream; allowed are http://HOST[:PORT], "),
    (["--upstream", "http://app:70000"], "'http://app:70000' is no upstream (Port out of range 0-65535); "),
    (["--upstream", "http://user:word@app"], " is no upstream; allowed are "),
    (
        ["--upstream", "http://app/root"],
        "'http://app/root' has a path: request targets are passed on as they",
    ),
    (["--upstream", f"http://{'a' * 64}"], " is no upstream; allowed are "),
    (["--listen", "8080"], "'8080' is no address; allowed are HOST:PORT, [IPV6]:PORT and unix:PATH"),
    (["--listen", f"{'a' * 64}:80"], " is no address; allowed are HOST:PORT, [IPV6]:PORT and unix:PATH"),
    (["--admin", "on"], "'on' is no address; allowed are HOST:PORT, [IPV6]:PORT and unix:PATH"),
    (["--trusted-proxies", "10.0.0.0/8,lan"], "'lan' is no IP network"),
    (["--workers", "0"], "0 is not in the range 1<=x<=64."),
    (["--access-log", "xml"], "'xml' is not one of 'json', 'text', 'off'."),
    (["--forwarded", "yes"], "'yes' is not one of 'append', 'replace', 'off'."),
    (["--idle-timeout", "-1"], "-1.0 is not in the range 0.001<=x<=86400."),
    (["--connect-timeout", "0"], "0.0 is not in the range 0.001<=x<=86400."),
    (["--idle-timeout", "nan"], "'nan' is not a number of seconds."),
    (["--connect-timeout", "5s"], "'5s' is not a valid float range."),
    (["--max-head-size", "10"], "10 is not in the range 1024<=x<=16777216."),
    (["--upstream-ca", "no/such/file.pem"], "File 'no/such/file.pem' does not exist."),
    (["--upstream-ca", "config"], "File 'config' is a directory."),
    (["--listne", ":80"], "No such option '--listne'. Did you mean '--listen'?"),
    (["rules.yaml"], "Got unexpected extra argument (rules.yaml)"),
]


@pytest.mark.parametrize(("flags", "text"), USAGE, ids=[" ".join(flags)[:40] for flags, _ in USAGE])
async def test_flag_that_cannot_be_read_is_wrong_usage_and_says_what_is_allowed(rules, flags, text):
    listen, admin = free_ports(2)
    places = ("--listen", f"{HOST}:{listen}", "--admin", f"{HOST}:{admin}")
    async with refused(*serve_command(APP, rules, *places, *flags), free=(listen, admin)) as running:
        assert running.process.returncode == 2
        usage, hint, _, error = running.log.read
        assert usage.startswith("Usage: ")
        assert hint.endswith("serve --help' for help.")
        assert error.startswith("Error: ")
        assert text in error
        if "Invalid value" in error:
            assert (
                f"'{flags[0]}' (env var: 'NOCACHE_PROXY_{flags[0][2:].upper().replace('-', '_')}')" in error
            )


async def test_app_must_be_named(rules):
    async with refused("serve", "--rules", str(rules)) as running:
        assert running.process.returncode == 2
        assert (
            running.log.read[-1] == "Error: Missing option '--upstream' (env var: 'NOCACHE_PROXY_UPSTREAM')."
        )


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--access-log-file", "."), "--access-log-file {}: Is a directory"),
        (("--access-log-file", "none/access.log"), "--access-log-file {}: No such file or directory"),
        (("--access-log-file", "rules.yaml/access.log"), "--access-log-file {}: Not a directory"),
        (("--upstream-ca", "rules.yaml"), "--upstream-ca {}: [X509: NO_CERTIFICATE_OR_CRL_FOUND] "),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_file_that_cannot_be_used_is_told_once_before_any_worker_starts(rules, flags, text, workers):
    listen, admin = free_ports(2)
    file = rules.parent / flags[1]
    words = ("--listen", f"{HOST}:{listen}", "--admin", f"{HOST}:{admin}", "--access-log", "json")
    words = (*words, flags[0], str(file), "--workers", workers)
    async with refused(*serve_command(APP, rules, *words), free=(listen, admin)) as running:
        assert running.process.returncode == 78
        (line,) = running.log.read
        assert line.startswith(text.format(file))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere and bind any port")
@pytest.mark.parametrize("flags", [("--access-log-file", "/access.log"), ("--listen", "127.0.0.1:1")])
async def test_what_is_forbidden_is_told_in_one_line(rules, flags):
    async with refused(*serve_command(APP, rules, "--access-log", "json", *flags)) as running:
        assert running.process.returncode == 78
        (line,) = running.log.read
        assert flags[1] in line
        assert line.endswith("Permission denied")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_port_that_is_taken_leaves_no_socket_file_of_the_admin_listener_behind(
    rules, tmp_path, workers
):
    admin = tmp_path / "admin"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ("--listen", address, "--admin", f"unix:{admin}", "--workers", workers)
        async with refused(*serve_command(APP, rules, *flags)) as running:
            assert running.process.returncode == 78
            assert running.log.read == [f"cannot listen on {address}: Address already in use"]
    assert not admin.exists()


async def test_variable_that_cannot_be_read_is_named(rules):
    env = {"NOCACHE_PROXY_MAX_HEAD_SIZE": "many"}
    async with command(*serve_command(APP, rules), env=env) as running:
        assert await running.ended() == 2
        assert (
            "(env var: 'NOCACHE_PROXY_MAX_HEAD_SIZE'): 'many' is not a valid integer range"
            in running.log.read[-1]
        )


# An app that is not there


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_matching_requests_get_a_protected_502_until_the_app_comes(tmp_path, workers):
    """And then their answers, without a restart: the app starts after its sidecar in most pods."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES % "first")
    app = App(port=free_port())
    async with sidecar(app.url, rules, "--workers", workers) as running:
        kept = await connect(running.listen)
        for fields in ((XHR,), ()):
            await kept.send(request("/", *fields))
            answer = await kept.read_response()
            assert (answer.status, answer.is_protected) == (502, True)
            assert answer.field("Cache-Control") == [
                b"no-store, no-cache, must-revalidate, max-age=0, private"
            ]
            assert answer.field("Proxy-Status") == [b"nocache-proxy; error=connection_refused"]
        async with app.running():
            await kept.send(request("/", XHR))  # even the connection that was refused before
            answer = await kept.read_response()
            assert (answer.status, answer.content, answer.field("X-Rules")) == (200, b"well", [b"first"])
            assert (await running.get("/", XHR)).is_protected
            await until(running.is_ready)
        await until(lambda: is_502(running))
        async with app.running():
            assert (await running.get("/", XHR)).status == 200


async def is_502(running: Sidecar) -> bool:
    answer = await running.get("/", XHR)
    assert answer.is_protected
    return answer.status == 502


@pytest.mark.parametrize(
    ("upstream", "reason"),
    [
        ("unix:none", "the app does not accept connections"),
        ("http://no-such-host.invalid", "the app's host name cannot be resolved"),
    ],
)
async def test_whatever_is_missing_of_the_app_is_a_502_and_a_reason_at_readyz(tmp_path, upstream, reason):
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES % "first")
    async with sidecar(upstream, rules) as running:
        assert await is_502(running)
        (told,) = (await running.ask("/readyz"))["reasons"]
        assert reason in told
        assert (await running.get("/", XHR)).status == 502
        running.process.terminate()
        assert await running.ended() == 0
        assert [json.loads(line)["level"] for line in running.log.read].count("error") == 0
