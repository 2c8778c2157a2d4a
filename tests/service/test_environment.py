"""Environment variables: a misspelt setting is told, with the one that was meant."""

from __future__ import annotations

import pytest

from proxy.service.environment import warn_of_unknown
from tests.support.serving import sidecar

KNOWN = ("NOCACHE_PROXY_UPSTREAM", "NOCACHE_PROXY_RULES", "NOCACHE_PROXY_KEEPALIVE_TIMEOUT")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "NOCACHE_PROXY_UPSTREM",
            "NOCACHE_PROXY_UPSTREM is no setting; did you mean NOCACHE_PROXY_UPSTREAM?",
        ),
        (
            "NOCACHE_PROXY_RULES_FILE",
            "NOCACHE_PROXY_RULES_FILE is no setting; did you mean NOCACHE_PROXY_RULES?",
        ),
        (
            "NOCACHE_PROXY_KEEP_ALIVE_TIMEOUT",
            "NOCACHE_PROXY_KEEP_ALIVE_TIMEOUT is no setting; did you mean NOCACHE_PROXY_KEEPALIVE_TIMEOUT?",
        ),
    ],
)
def test_misspelt_setting_is_told_with_the_nearest(name, text, caplog):
    warn_of_unknown([name, *KNOWN, "PATH"], KNOWN)
    assert [record.getMessage() for record in caplog.records] == [text]


def test_variable_like_no_setting_is_told_without_one(caplog):
    warn_of_unknown(["NOCACHE_PROXY_XYZ123456789"], KNOWN)
    assert [record.getMessage() for record in caplog.records] == ["NOCACHE_PROXY_XYZ123456789 is no setting"]


@pytest.mark.parametrize(
    "name",
    [
        *("NOCACHE_PROXY_SERVICE_HOST", "NOCACHE_PROXY_SERVICE_PORT", "NOCACHE_PROXY_SERVICE_PORT_HTTP"),
        *("NOCACHE_PROXY_PORT", "NOCACHE_PROXY_PORT_8080_TCP", "NOCACHE_PROXY_PORT_8080_TCP_ADDR"),
        *("NOCACHE_PROXYX", "nocache_proxy_upstream"),
    ],
)
def test_what_kubernetes_says_of_a_service_of_that_name_is_no_setting(name, caplog):
    warn_of_unknown([name], KNOWN)
    assert not caplog.records


async def test_serve_tells_of_them_and_of_no_setting_that_it_knows(app, rules):
    env = {
        "NOCACHE_PROXY_UPSTREM": "http://app",
        "NOCACHE_PROXY_LOG_LEVEL": "info",
        "NOCACHE_PROXY_RULES": str(rules),
    }
    async with sidecar(app.url, rules, env=env) as running:
        await running.log.matching("NOCACHE_PROXY_UPSTREM is no setting; did you mean NOCACHE_PROXY_UPSTREAM")
        assert len([line for line in running.log.read if "is no setting" in line]) == 1
