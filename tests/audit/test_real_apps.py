"""The audit of a real app: Django's admin, used in Chromium with no rule in force, and again with the rules that it proposes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.admin.test_page_in_browser import CHROMIUM, running
from tests.support.ports import free_port, is_open
from tests.support.waiting import wait_until

pytest.importorskip("django")
sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(240)]

NONE = "version: 1\nrules: [{name: none, match: {paths: [/none]}}]\n"
SETTINGS = """\
from pathlib import Path
BASE = Path(__file__).parent
SECRET_KEY, DEBUG, ALLOWED_HOSTS, ROOT_URLCONF, STATIC_URL = "x" * 50, True, ["*"], "site_urls", "/static/"
INSTALLED_APPS = [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware", "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {"context_processors": [
    "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages"]}}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
# Beside the admin, which forbids caching itself, a view as apps have them: no field about caching at all.
URLS = """\
from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import JsonResponse
from django.urls import path
urlpatterns = [path("admin/", admin.site.urls), path("api/groups", lambda _: JsonResponse({"count": Group.objects.count()}))]
"""


@contextmanager
def django(directory: Path):
    (directory / "site_settings.py").write_text(SETTINGS)
    (directory / "site_urls.py").write_text(URLS)
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(directory)}
    env |= {"DJANGO_SUPERUSER_PASSWORD": "secret-of-the-test"}
    manage = [sys.executable, "-m", "django"]
    for words in (
        ["migrate", "-v", "0"],
        ["createsuperuser", "--noinput", "--username", "root", "--email", "r@example.com"],
    ):
        subprocess.run([*manage, *words], env=env, cwd=directory, check=True, capture_output=True)
    port = free_port()
    app = subprocess.Popen(
        [*manage, "runserver", "--noreload", f"127.0.0.1:{port}"],
        env=env, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: is_open(port))
        yield port
    finally:
        app.terminate()
        app.wait(30)


def use(browser, site: str, name: str) -> None:
    """Log in, look around, add two groups and ask for their number after each."""
    page = browser.new_page()
    page.goto(f"{site}/admin/")
    page.fill("#id_username", "root")
    page.fill("#id_password", "secret-of-the-test")
    page.click("input[type=submit]")
    for number in range(2):
        page.goto(f"{site}/admin/auth/group/add/")
        page.fill("#id_name", f"{name} {number}")
        page.click("input[name=_save]")
        ask = "fetch('/api/groups', {cache: 'reload', headers: {'X-Requested-With': 'XMLHttpRequest'}}).then(r => r.text())"
        page.evaluate(ask)
        page.goto(f"{site}/admin/auth/group/")
        page.goto(f"{site}/admin/auth/user/")
    page.close()


def test_proposed_rules_cure_what_was_stale_in_djangos_admin(tmp_path, capsys):
    rules = tmp_path / "rules.yaml"
    rules.write_text(NONE)
    with django(tmp_path) as app, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        reports = []
        for name in ("before", "after"):
            with running(rules, app) as site:
                use(browser, f"http://127.0.0.1:{site.data_port}", name)
                wait_until(
                    lambda site=site: verdict_of(site.report(), "/api/groups") in ("stale", "protected")
                )
                reports.append(site.report())
            rules.write_text(reports[0]["rules"])
        browser.close()
    before, after = reports
    with capsys.disabled():
        for report in reports:
            print()
            for route in report["routes"]:
                print(f"{route['verdict']:9} {route['method']} {route['route']}: {route['why']}")
    assert verdict_of(before, "/api/groups") == "stale"
    assert verdict_of(after, "/api/groups") == "protected"
    assert not {"stale", "leak"} & {route["verdict"] for route in after["routes"]}


def verdict_of(report: dict, path: str) -> str:
    return next((route["verdict"] for route in report["routes"] if route["route"] == path), "")
