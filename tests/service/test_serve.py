"""The contract of a running `serve`: its signals, its drain, its reloads and what keeps it from starting."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support.peer import XHR, request
from tests.support.ports import free_port
from tests.support.serving import RULES, App, Sidecar, command, connect, get, serve_command, sidecar
from tests.support.waiting import until


async def uses(running: Sidecar, version: str) -> bool:
    return (await running.get("/", XHR)).field("X-Rules") == [version.encode()]


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_response_under_way_is_finished_before_the_end(app, rules, number):
    """What is in flight ends with Connection: close, no new connections, exit 0."""
    async with sidecar(app.url, rules) as running:
        late, idle = await connect(running.listen), await connect(running.listen)
        await late.send(request("/slow"))
        await late.read_until(b"we")
        running.send(number)
        assert (await idle.read_to_end()).data == b""
        assert (await running.ask("/readyz"))["reasons"] == ["draining"]
        with pytest.raises(ConnectionError):
            await connect(running.listen)
        app.finish.set()
        answer = await late.read_to_end()
        assert (answer.data, answer.end) == (b"ll", "closed")
        assert await running.ended() == 0
        await running.log.matching('"message": "drained"')


async def test_request_that_comes_before_the_drain_is_told_that_the_connection_closes(app, rules):
    async with sidecar(app.url, rules) as running:
        late = await connect(running.listen)
        await late.send(request("/")[:-2])
        await late.send(b"X: y\r\n")
        await until(lambda: _counts(running, "nocache_proxy_client_connections_open", 1))
        running.send(signal.SIGTERM)
        await running.log.matching("draining, at most 25s")
        await late.send(b"\r\n")
        answer = await late.read_to_end()
        assert (answer.status, answer.content, answer.field("Connection")) == (200, b"well", [b"close"])
        assert await running.ended() == 0


async def test_second_signal_ends_at_once(app, rules):
    async with sidecar(app.url, rules) as running:
        late = await connect(running.listen)
        await late.send(request("/slow"))
        await late.read_until(b"we")
        running.send(signal.SIGTERM)
        await running.log.matching("draining")
        running.send(signal.SIGTERM)
        assert (await late.read_to_end()).end == "reset"  # a cut response has no clean end
        assert await running.ended() == 0
        await running.log.matching("second signal: ending at once")


async def test_exchange_that_outlasts_the_drain_is_broken_off(app, rules):
    async with sidecar(app.url, rules, "--drain-timeout", "0.2") as running:
        late = await connect(running.listen)
        await late.send(request("/slow"))
        await late.read_until(b"we")
        running.send(signal.SIGTERM)
        assert (await late.read_to_end()).end == "reset"
        assert await running.ended() == 0
        await running.log.matching("1 exchanges did not end in time and were broken off")


async def test_connections_are_taken_during_the_drain_delay_while_readiness_says_no(app, rules):
    async with sidecar(app.url, rules, "--drain-delay", "60") as running:
        assert await running.is_ready()
        running.send(signal.SIGTERM)
        await running.log.matching("draining, at most 85s")
        ready = await get(running.admin, "/readyz")
        assert (ready.status, json.loads(ready.content)["reasons"]) == (503, ["draining"])
        assert (await get(running.admin, "/livez")).status == 200
        assert (await running.get("/")).status == 200
        running.send(signal.SIGTERM)
        assert await running.ended() == 0


async def test_hangup_reloads_the_rules_and_says_so(app, rules):
    """Also when the content has not changed: an operator who asks wants an answer."""
    async with sidecar(app.url, rules) as running:
        running.send(signal.SIGHUP)
        await running.log.matching("SIGHUP: reloading the rules")
        await running.log.matching("rules reloaded from .*: 1 rules, digest [0-9a-f]{12}")


async def test_access_log_is_opened_again_on_a_signal(app, rules, tmp_path):
    path = tmp_path / "access.log"
    flags = ("--access-log", "json", "--access-log-file", str(path))
    async with sidecar(app.url, rules, *flags) as running:
        await running.get("/before")
        await until(lambda: _has(path, "/before"))
        path.rename(tmp_path / "access.log.1")
        running.send(signal.SIGUSR1)
        await until(lambda: _has(path, ""))
        await running.get("/after")
        await until(lambda: _has(path, "/after"))
        assert [json.loads(line)["target"] for line in path.read_text().splitlines()] == ["/after"]
        assert "/after" not in (tmp_path / "access.log.1").read_text()


async def _has(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


async def _counts(running: Sidecar, name: str, value: float) -> bool:
    return (await running.metrics())[name] == value


# Rules


async def test_changed_file_takes_effect_and_a_bad_one_does_not(app, rules):
    """The old rules stay, with a note on /readyz and a metric; requests never notice."""
    async with sidecar(app.url, rules) as running:
        assert await uses(running, "first")
        rules.write_text("version: 1\nrules: [{nam: a}]\n")
        (line,) = await running.log.matching("rules not reloaded")
        assert "rules.yaml:2:10: rules[0].nam: unknown key, did you mean 'name'?" in line
        ready = await running.ask("/readyz")
        assert ready["ready"]
        assert "unknown key, did you mean 'name'?" in ready["notes"][0]
        samples = await running.metrics()
        assert samples["nocache_proxy_rules_last_reload_successful"] == 0
        assert samples['nocache_proxy_rules_reloads_total{result="failure"}'] == 1
        assert await uses(running, "first")
        rules.write_text(RULES % "second")
        await until(lambda: uses(running, "second"))
        assert (await running.ask("/readyz"))["notes"] == []
        assert (await running.metrics())["nocache_proxy_rules_last_reload_successful"] == 1


BROKEN = {
    "unknown key": (b"version: 1\nrules:\n  - nam: a\n  - name: b\n    polcy: pass\n", [3, 5]),
    "duplicate key": (b"version: 1\nversion: 1\nrules: []\n", [2]),
    "wrong type": (b"version: one\nrules: nothing\n", [1, 2]),
    "bad glob": (b'version: 1\nrules: [{name: a, match: {paths: ["a"]}}]\n', [2]),
    "bad regex": (b'version: 1\nrules: [{name: a, match: {path_regexes: ["("]}}]\n', [2]),
    "not YAML": (b"version: 1\nrules: [\n", [3]),
    "empty": (b"", [1]),
    "not UTF-8": (b"version: 1\nrules: []\n# \xff\n", [3]),
    "failing test": (b"version: 1\nrules: []\ntests: [{request: {path: /}, expect: {rule: a}}]\n", [3]),
}


@pytest.mark.parametrize("name", [*BROKEN, "missing"])
async def test_rules_that_cannot_be_used_end_it_with_every_mistake_and_nothing_listens(rules, name):
    """Exit code 78, EX_CONFIG. The addresses belong to this test: whoever bound them would fail otherwise."""
    data, lines = BROKEN.get(name, (b"", []))
    rules.write_bytes(data)
    if name == "missing":
        rules.unlink()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_by_us = f"127.0.0.1:{taken.getsockname()[1]}"
        words = serve_command("http://127.0.0.1:1", rules, "--listen", taken_by_us, "--admin", taken_by_us)
        async with command(*words) as running:
            assert await running.ended() == 78
        assert running.log.read
        assert not any("Traceback" in line or "listen" in line for line in running.log.read)
        found = [re.match(rf"{re.escape(str(rules))}:(\d+):\d+: ", line) for line in running.log.read]
        assert [int(match[1]) for match in found if match] == lines
        assert all(line.startswith(str(rules)) for line in running.log.read)


# What else keeps it from starting


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ("--access-log", "json", "--access-log-file", "/no/such/directory/log"),
            "--access-log-file /no/such/",
        ),
        (("--upstream-ca", "LICENSE"), "--upstream-ca LICENSE: "),
        (("--listen", "192.0.2.1:80"), "cannot listen on 192.0.2.1:80"),
        (("--admin", "192.0.2.1:80"), "cannot listen on 192.0.2.1:80"),
    ],
)
async def test_setting_that_cannot_be_used_is_told_in_one_line(rules, flags, text):
    async with command(*serve_command("http://127.0.0.1:1", rules, *flags)) as running:
        assert await running.ended() == 78
    assert len(running.log.read) == 1
    assert text in running.log.read[0]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_port_that_is_taken_is_told_in_one_line(rules, workers):
    """Also one of another sidecar whose workers share it, and one that is wanted twice."""
    async with sidecar("http://127.0.0.1:1", rules, "--workers", workers) as first:
        address = "{}:{}".format(*first.listen)
        free = f"127.0.0.1:{free_port()}"
        for flags in (("--listen", address), ("--admin", address), ("--listen", free, "--admin", free)):
            words = serve_command("http://127.0.0.1:1", rules, "--workers", workers, *flags)
            async with command(*words) as second:
                assert await second.ended() == 78
            assert second.log.read == [f"cannot listen on {flags[1]}: Address already in use"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_upstream_that_is_the_sidecar_itself_is_told_in_one_line(rules, host):
    port = free_port()
    words = serve_command(f"http://{host}:{port}", rules, "--listen", f"127.0.0.1:{port}")
    async with command(*words) as running:
        assert await running.ended() == 78
    (line,) = running.log.read
    assert line.startswith(f"--upstream http://{host}:{port} is --listen 127.0.0.1:{port} itself: ")


async def test_app_that_is_not_there_at_the_start_is_no_error(rules):
    """502 under the strict policy until it comes; /readyz says why, /livez does not care."""
    app = App(port=free_port())
    async with sidecar(app.url, rules) as running:
        answer = await running.get("/")
        assert (answer.status, answer.is_protected) == (502, True)
        ready = await get(running.admin, "/readyz")
        assert ready.status == 503
        assert "the app does not accept connections" in json.loads(ready.content)["reasons"][0]
        assert (await get(running.admin, "/livez")).status == 200
        async with app.running():
            assert (await running.get("/")).status == 200
            await until(running.is_ready)


async def test_there_may_be_no_admin_listener(app, rules):
    async with sidecar(app.url, rules, "--admin", "off") as running:
        assert "admin on off" in running.log.read[0]
        assert (await running.get("/")).status == 200
        running.send(signal.SIGTERM)
        assert await running.ended() == 0


async def test_both_listeners_may_be_unix_sockets_and_are_removed(app, rules, tmp_path):
    listen, admin = tmp_path / "l", tmp_path / "a"
    async with sidecar(app.url, rules, "--listen", f"unix:{listen}", "--admin", f"unix:{admin}") as running:
        assert (running.listen, running.admin) == (listen, admin)
        assert (await running.get("/", XHR)).is_protected
        assert await running.is_ready()
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    assert not listen.exists()
    assert not admin.exists()


async def test_start_says_what_runs_and_warns_about_the_rules(app, rules):
    rules.write_text("version: 1\nrules: [{name: all}]\n")
    async with sidecar(app.url, rules) as running:
        (line,) = await running.log.matching("listening on")
        entry = json.loads(line)
        assert entry["level"] == "info"
        assert f"for {app.url}, rules {rules} (1, digest " in entry["message"]
        for warning in await running.log.matching('"level": "warning"'):
            assert f"{rules}:2:" in json.loads(warning)["message"]


async def test_reload_says_what_may_be_wrong_with_the_new_rules(app, rules):
    """That is when somebody looks."""
    async with sidecar(app.url, rules) as running:
        assert await uses(running, "first")
        rules.write_text(
            "version: 1\nrules:\n  - {name: a, match: {paths: ['/a/**']}}\npolicies: {spare: {extends: strict}}\n"
        )
        await running.log.matching("rules reloaded")
        await running.log.matching("rules.yaml:4:.*policies.spare")


async def test_start_says_where_the_other_warnings_are_when_they_are_many(app, rules):
    rule = "  - {name: 'r%d', match: {paths: [/%d], x_requested_with: XMLHttpRequest}, policy: strict}\n"
    rules.write_text("version: 1\nrules:\n" + "".join(rule % (number, number) for number in range(50)))
    async with sidecar(app.url, rules) as running:
        (line,) = await running.log.matching("more warnings: ")
        assert re.search(rf'"\d+ more warnings: nocache-proxy check {rules}"', line)
        assert len(await running.log.matching('"level": "warning"')) == 21


async def test_settings_come_from_the_environment_too(app, rules):
    env = {"NOCACHE_PROXY_ACCESS_LOG": "text", "NOCACHE_PROXY_FORWARDED": "off"}
    words = [word for word in serve_command(app.url, rules) if word not in ("--access-log", "off")]
    async with command(*words, env=env) as running:
        await running.started()
        await running.get("/from-the-environment")
        (line,) = await running.out.matching("/from-the-environment")
        assert re.search(r"Z 127\.0\.0\.1 GET /from-the-environment 200 \d+\.\dms in=0 out=4", line)
        assert (await running.ask("/api/config"))["settings"]["forwarded"] == "off"


async def test_debugging_tells_each_phase_of_an_exchange(app, rules):
    async with sidecar(app.url, rules, "--log-level", "debug") as running:
        await running.get("/traced", XHR)
        await running.log.matching("GET /traced from 127.0.0.1")
        await running.log.matching("done: 200, rule ajax, policy first")


async def test_access_log_is_on_standard_output_and_complete_at_the_end(app, rules):
    async with sidecar(app.url, rules, "--access-log", "json") as running:
        await asyncio.gather(*(running.get(f"/{number}", XHR) for number in range(20)))
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    entries = [json.loads(line) for line in running.out.read]
    assert sorted(entry["target"] for entry in entries) == sorted(f"/{number}" for number in range(20))
    assert {(entry["rule"], entry["policy"], entry["status"]) for entry in entries} == {
        ("ajax", "first", 200)
    }


async def test_tunnel_outlives_a_reload_and_ends_with_the_drain(app, rules):
    async with sidecar(app.url, rules, "--drain-timeout", "0.2") as running:
        tunnel = await connect(running.listen)
        await tunnel.send(request("/ws", "Connection: Upgrade", "Upgrade: echo"))
        assert b" 101 " in await tunnel.read_head()
        rules.write_text(RULES % "second")
        await until(lambda: uses(running, "second"))
        await tunnel.send(b"still there?")
        assert await tunnel.read_exactly(12) == b"still there?"
        running.send(signal.SIGTERM)
        assert (await tunnel.read_to_end()).data == b""
        assert await running.ended() == 0
