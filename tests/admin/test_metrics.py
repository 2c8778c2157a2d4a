"""/metrics: what it says after known traffic, that no label comes from a client, and that it never holds the loop."""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import __version__
from proxy.admin import metrics
from proxy.gateway import failures
from proxy.message.methods import METHODS
from proxy.rules.loading import loader
from proxy.stats import DURATION_BOUNDS_S, Stats
from tests.admin.standing import RULES, AdminTestServer, Service, difference
from tests.support.peer import XHR, request
from tests.support.serving import App, Sidecar, connect, sidecar
from tests.support.waiting import LIMIT_S, until

P = "nocache_proxy_"
BY_RULE = ("fields_changed", "conditionals_stripped", "observed")
RULE_NAMES = ("downloads", "tried-out", "ajax")


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


@pytest.fixture
async def app():
    async with App().running() as running:
        yield running


async def scrape(service: Service) -> dict[str, float]:
    """Render, and read as Prometheus does: every sample by name and labels."""
    text = (await metrics.render(service)).decode()
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def counts(running: Sidecar, name: str, value: float) -> bool:
    return (await running.metrics())[P + name] == value


# After known traffic


async def test_counters_tell_what_happened(app, rules):
    async with sidecar(app.url, rules) as running:
        before = await running.metrics()
        for target, *fields in (
            ("/", XHR, 'If-None-Match: "v"', "If-Modified-Since: Thu, 01 Dec 1994 16:00:00 GMT"),
            ("/api/items", XHR),
            ("/file/a", XHR),
            ("/page",),
        ):
            assert (await running.get(target, *fields)).status == 200
        posting = await connect(running.listen)
        await posting.send(
            b"POST /page HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
        )
        assert (await posting.read_to_end()).status == 200
        refused = await connect(running.listen)
        await refused.send(b"nonsense\r\n\r\n")
        refusal = await refused.read_to_end()
        assert refusal.status == 400
        await until(lambda: counts(running, "client_connections_open", 0))
        risen = difference(await running.metrics(), before)
    # At least Cache-Control, Pragma, Expires and X-Accel-Expires, on each of two.
    assert risen.pop(f'{P}fields_changed_total{{rule="ajax"}}') >= 2 * 4
    assert risen.pop(f"{P}request_duration_seconds_sum") > 0
    opened = risen.pop(f"{P}upstream_connections_total")  # none by the readiness probes of the scrapes
    assert opened == 5 - risen.pop(f"{P}upstream_connections_reused_total", 0)
    assert risen.pop(f"{P}upstream_connections_open", 0) <= opened
    buckets = {name: risen.pop(name) for name in list(risen) if "_bucket{" in name}
    assert buckets[f'{P}request_duration_seconds_bucket{{le="+Inf"}}'] == 6
    assert risen == {
        f'{P}requests_total{{rule="ajax",method="GET",code="2xx"}}': 2,
        f'{P}requests_total{{rule="downloads",method="GET",code="2xx"}}': 1,
        f'{P}requests_total{{rule="",method="GET",code="2xx"}}': 1,
        f'{P}requests_total{{rule="",method="POST",code="2xx"}}': 1,
        f'{P}requests_total{{rule="",method="",code="4xx"}}': 1,
        f"{P}request_duration_seconds_count": 6,
        f"{P}client_connections_total": 6,
        f"{P}request_content_bytes_total": 5,
        f"{P}response_content_bytes_total": 5 * len(b"well") + len(refusal.content),
        f'{P}conditionals_stripped_total{{rule="ajax"}}': 2,
        f'{P}observed_total{{rule="tried-out"}}': 1,
        f'{P}client_errors_total{{reason="bad_request"}}': 1,
    }


async def test_gauges_tell_what_is_open_now(app, rules):
    async with sidecar(app.url, rules) as running:
        slow = await connect(running.listen)
        await slow.send(request("/slow"))
        await slow.read_until(b"we")
        tunnel = await connect(running.listen)
        await tunnel.send(request("/", "Connection: Upgrade", "Upgrade: echo"))
        await tunnel.read_until(b"\r\n\r\n")
        now = await running.metrics()
        assert (now[f"{P}requests_in_flight"], now[f"{P}tunnels_open"]) == (2, 1)
        assert (now[f"{P}client_connections_open"], now[f"{P}upstream_connections_open"]) == (2, 2)
        assert now[f"{P}request_duration_seconds_count"] == 0
        app.finish.set()
        await slow.read_until(b"ll")
        slow.close()
        tunnel.close()
        await until(lambda: counts(running, "client_connections_open", 0))
        now = await running.metrics()
        assert (now[f"{P}requests_in_flight"], now[f"{P}tunnels_open"], now[f"{P}tunnels_total"]) == (0, 0, 1)


async def test_tunnel_counts_among_durations_with_the_time_to_its_beginning(app, rules):
    """A WebSocket that is open all day is no slow request."""
    async with sidecar(app.url, rules) as running:
        tunnel = await connect(running.listen)
        began_s = time.perf_counter()
        await tunnel.send(request("/", "Connection: Upgrade", "Upgrade: echo"))
        await tunnel.read_until(b"\r\n\r\n")
        answered_s = time.perf_counter() - began_s
        while time.perf_counter() - began_s < 2 * answered_s + 0.1:
            await tunnel.send(b"echo")
            await tunnel.read_exactly(4)
        tunnel.close()
        await until(lambda: counts(running, "request_duration_seconds_count", 1))
        assert (await running.metrics())[f"{P}request_duration_seconds_sum"] <= answered_s


async def test_failures_of_the_app_are_counted_by_reason(rules):
    app = App()
    async with app.running():
        pass  # its port is free from here on
    async with sidecar(app.url, rules) as running:
        before = await running.metrics()
        assert (await running.get("/", XHR)).status == 502
        risen = difference(await running.metrics(), before)
    assert risen[f'{P}upstream_errors_total{{reason="connect_refused"}}'] == 1
    assert risen[f'{P}requests_total{{rule="ajax",method="GET",code="5xx"}}'] == 1
    assert not [name for name in risen if "client_errors" in name]


async def test_client_that_leaves_counts_neither_against_the_app_nor_as_its_success(app, rules):
    async with sidecar(app.url, rules) as running:
        leaving = await connect(running.listen)
        await leaving.send(request("/slow"))
        await leaving.read_until(b"we")
        leaving.reset()
        await until(lambda: counts(running, "client_aborts_total", 1))
        now = await running.metrics()
        assert now[f'{P}requests_total{{rule="",method="GET",code="4xx"}}'] == 1
        assert not [name for name, value in now.items() if "_errors_total" in name and value]


async def test_reloads_are_told_by_result_and_by_what_is_in_force(app, rules):
    async with sidecar(app.url, rules) as running:
        first = await running.metrics()
        assert first[f"{P}rules"] == 3
        rules.write_text(RULES + "  - {name: last}\n")
        await until(lambda: counts(running, "rules", 4))
        rules.write_text("version: 2\n")
        await until(lambda: counts(running, "rules_last_reload_successful", 0))
        now = await running.metrics()
        digest = (await running.ask("/api/rules"))["digest"]
    assert now[f'{P}rules_reloads_total{{result="success"}}'] == 1
    assert now[f'{P}rules_reloads_total{{result="failure"}}'] == 1
    assert now[f"{P}rules"] == 4
    assert now[f'{P}rules_info{{digest="{digest}"}}'] == 1
    assert f'{P}rules_info{{digest="{digest}"}}' not in first
    name = f"{P}rules_last_reload_success_timestamp_seconds"
    assert now[name] > first[name] > 1.7e9


async def test_workers_are_added_up(app, rules):
    """Connections are the kernel's to give out: enough of them that no worker is left without."""
    async with sidecar(app.url, rules, "--workers", "2") as running:
        await until(running.is_ready)
        await until(lambda: counts(running, "workers_running", 2))
        for _ in range(40):
            assert (await running.get("/", XHR)).status == 200
        now = await running.metrics()
        pids = running.worker_pids()
    assert len(pids) == 2
    assert now[f'{P}requests_total{{rule="ajax",method="GET",code="2xx"}}'] == 40
    assert now[f"{P}client_connections_total"] == 40
    assert now[f"{P}request_duration_seconds_count"] == 40
    assert (now[f"{P}workers"], now[f"{P}client_connections_limit"]) == (2, 2_000)


# What stands there from the start, and what never will


async def test_every_series_that_code_and_rules_name_is_there_at_0():
    """To a rate, a series that begins with 1 has not risen."""
    samples = await scrape(Service())
    for rule in ("", *RULE_NAMES):
        assert samples[f"{P}requests_total code=2xx method=GET rule={rule}"] == 0
    for name in BY_RULE:
        for rule in RULE_NAMES:
            assert samples[f"{P}{name}_total rule={rule}"] == 0
    known = [value for value in vars(failures).values() if isinstance(value, failures.Failure)]
    assert len(known) > 20
    for failure in known:
        assert (f"{P}{failure.source}_errors_total reason={failure.reason}" in samples) is (
            failure is not failures.CLIENT_LEFT
        )
    for result in ("success", "failure"):
        assert samples[f"{P}rules_reloads_total result={result}"] == 0


async def test_a_rule_that_is_gone_keeps_its_series_and_has_each_but_once():
    """After a reload, what was counted stays: a counter that vanishes looks like a restart."""
    stats = Stats()
    stats.count_exchange("gone", "GET", 200, 0.1)
    stats.count_exchange("ajax", "PUT", 404, 0.1)
    stats.fields_changed["gone"] += 7
    text = (await metrics.render(Service(workers=[stats]))).decode()
    names = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(set(names)) == len(names)
    samples = await scrape(Service(workers=[stats]))
    assert samples[f"{P}requests_total code=2xx method=GET rule=gone"] == 1
    assert samples[f"{P}requests_total code=4xx method=PUT rule=ajax"] == 1
    assert f"{P}requests_total code=2xx method=GET rule=ajax" not in samples
    assert samples[f"{P}fields_changed_total rule=gone"] == 7


async def test_nothing_that_a_client_sends_becomes_a_label(app, rules):
    """Rule, method, status class, reason; never a path. 200 requests with all sorts of things."""
    drawn = random.Random(5)
    methods = [
        *sorted(METHODS - {"CONNECT"}),
        "FROB",
        *[f"X-{number}" for number in range(20)],
        "get",
        'G"ET',
        "X" * 50,
    ]
    async with sidecar(app.url, rules) as running:
        for number in range(200):
            peer = await connect(running.listen)
            target = f"/{drawn.randrange(10**9)}/{number}?q={number}"
            field = drawn.choice(["X-Requested-With: XMLHttpRequest", f"X-{number}: y", "User-Agent: {}"])
            await peer.send(
                f"{drawn.choice(methods)} {target} HTTP/1.1\r\nHost: h{number}\r\n{field}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            async with asyncio.timeout(LIMIT_S):
                await peer.reader.read()
            peer.close()
        names = set(await running.metrics())
    labels: dict[str, set[str]] = {}
    for name in names:
        for label, value in re.findall(r'(\w+)="([^"]*)"', name):
            labels.setdefault(label, set()).add(value)
    reasons = {value.reason for value in vars(failures).values() if isinstance(value, failures.Failure)}
    assert labels["rule"] <= {"", *RULE_NAMES}
    assert {"GET", "PATCH", "other", ""} <= labels["method"] <= {"", "other", *METHODS}
    assert labels["code"] <= {f"{digit}xx" for digit in range(1, 6)}
    assert labels["reason"] <= reasons
    assert set(labels) == {"rule", "method", "code", "reason", "le", "result", "version", "digest"}


# How it is written


async def test_histogram_is_cumulative_and_bounded_as_stats_counts():
    stats = Stats()
    for duration_s in (0.005, 0.0051, 0.3, 31.0):
        stats.count_exchange("", "GET", 200, duration_s)
    samples = await scrape(Service(workers=[stats]))
    name = f"{P}request_duration_seconds"
    buckets = [samples[f"{name}_bucket le={bound}"] for bound in (*DURATION_BOUNDS_S, "+Inf")]
    assert buckets == [1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4]
    assert (samples[f"{name}_count"], samples[f"{name}_sum"]) == (4, pytest.approx(31.3101))


async def test_service_tells_its_version_and_its_state():
    service = Service()
    service.rules_status = replace(service.rules_status, reloads=3, failed_reloads=2, last_reload_ok=False)
    samples = await scrape(service)
    assert samples[f"{P}build_info version={__version__}"] == 1
    assert samples[f"{P}rules_info digest=0123456789ab"] == 1
    assert samples[f"{P}rules_last_reload_successful"] == 0
    assert samples[f"{P}rules_reloads_total result=success"] == 3
    assert samples[f"{P}rules_reloads_total result=failure"] == 2
    assert (samples[f"{P}ready"], samples[f"{P}workers"], samples[f"{P}workers_running"]) == (1, 1, 1)
    service.reasons = ["draining"]
    assert (await scrape(service))[f"{P}ready"] == 0


async def test_app_that_does_not_answer_the_probe_does_not_hold_up_the_scrape(monkeypatch):
    monkeypatch.setattr(metrics, "_PATIENCE_S", 0.01)

    class Waiting(Service):
        async def reasons_not_ready(self) -> list[str]:
            await asyncio.Event().wait()
            return []

    assert (await scrape(Waiting()))[f"{P}ready"] == 0


async def test_content_type_is_that_of_the_text_format(aiohttp_client):
    answer = await (await aiohttp_client(AdminTestServer(Service()))).get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (await answer.text()).endswith("\n")


async def test_a_thousand_rules_are_written_in_slices_between_which_requests_are_served():
    """The longest that the loop is held is a slice of 500 lines; `test_scrape_under_load` has the figures."""
    names = [f"r{number}" for number in range(1000)]
    stats = Stats()
    for name in names:
        for method in ("GET", "HEAD", "POST", "PUT"):
            stats.count_exchange(name, method, 200, 0.1)
    text = "version: 1\nrules:\n" + "".join(
        f"  - {{name: {name}, match: {{paths: [/{name}]}}}}\n" for name in names
    )
    service = Service(rules_file=loader.loads(text.encode(), "rules.yaml"), workers=[stats])
    turns = 0
    rendering = asyncio.ensure_future(metrics.render(service))
    while not rendering.done():
        turns += 1
        await asyncio.sleep(0)
    lines = rendering.result().count(b"\n")
    assert lines > 7000
    assert turns >= lines / 500
