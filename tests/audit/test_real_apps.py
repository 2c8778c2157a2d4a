"""The audit of real apps: used in Chromium with no rule in force, and again with the rules that it proposes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.audit import report
from tests.admin.test_page_in_browser import Site, running
from tests.audit.real_apps import APPS, RealApp
from tests.support.browser import chromium
from tests.support.ports import free_port, is_open
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(600)]

NONE = "version: 1\nrules: [{name: none, match: {paths: [/none]}}]\n"
PERSONS = 2
LAST = "/the-last-that-is-asked-for"


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_proposed_rules_cure_what_was_stale(app, tmp_path, capsys):
    rules = tmp_path / "rules.yaml"
    rules.write_text(NONE)
    reports = []
    with serving(app, tmp_path) as port, chromium() as browser:
        for first in (1, 1 + PERSONS):
            with running(rules, port) as site:
                for number in range(first, first + PERSONS):
                    use(app, browser, site, number)
                reports.append(report_of(site))
            if reports[0]["rules"]:
                rules.write_text(reports[0]["rules"])
    before, after = reports
    with capsys.disabled():
        print(f"\n{app.name}")
        for found in reports:
            print(report.to_text(found))
    found = {route["route"] for route in before["routes"] if route["verdict"] in ("stale", "leak")}
    assert app.must_find <= found
    assert not {"stale", "leak"} & {route["verdict"] for route in after["routes"]}
    assert not any("No rule could be made" in note for note in before["notes"])
    protected = {route["route"] for route in after["routes"] if route["verdict"] == "protected"}
    assert app.must_find <= protected


@contextmanager
def serving(app: RealApp, directory: Path) -> Iterator[int]:
    """Install an app in an environment of its own, and run it."""
    port = free_port()
    python = directory / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *app.requirements], check=True, capture_output=True
    )
    for name, text in app.files.items():
        (directory / name).write_text(text)

    def filled(words):
        return [word.format(port=port, dir=directory) for word in words]

    env = os.environ | dict(zip(app.env, filled(app.env.values()), strict=True))
    for words in app.prepare:
        subprocess.run([python, *filled(words)], env=env, cwd=directory, check=True, capture_output=True)
    with (directory / "app.log").open("wb") as log:
        process = subprocess.Popen(
            [python, *filled(app.command)], env=env, cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_until(lambda: is_open(port))
            yield port
        finally:
            process.terminate()
            process.wait(30)


def use(app: RealApp, browser, site: Site, number: int) -> None:
    options = {}
    if app.credentials is not None:
        options["http_credentials"] = dict(zip(("username", "password"), app.credentials, strict=True))
    context = browser.new_context(**options)
    context.set_default_timeout(30_000)
    app.use(context.new_page(), f"http://127.0.0.1:{site.data_port}", number)
    context.close()


def report_of(site: Site) -> dict:
    """The report, when all that was asked for is in it."""
    site.ask(LAST)
    wait_until(lambda: any(route["route"] == LAST for route in site.report()["routes"]))
    report = site.report()
    report["routes"] = [route for route in report["routes"] if route["route"] != LAST]
    return report
