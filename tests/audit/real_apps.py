"""Apps that people run, each with what a person does with it in a browser.

They are installed in environments of their own: nothing of theirs is needed by other tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Page = Any
"""Of Playwright, which is not typed here as it may be missing."""


@dataclass(frozen=True)
class RealApp:
    """One app.

    Attributes:
        requirements: distributions, from PyPI.
        command: after `python`; `{port}` stands for its port, `{dir}` for the directory of `files`.
        use: a person's round through it, at this address; the number tells rounds apart.
        must_find: routes that the audit must call stale or leak while no rule is in force.
        files: text by name.
        prepare: commands that run once before, likewise.
        env: variables for all of them.
        credentials: for HTTP's Basic authentication.
    """

    name: str
    requirements: Sequence[str]
    command: Sequence[str]
    use: Callable[[Page, str, int], None]
    must_find: frozenset[str]
    files: Mapping[str, str] = field(default_factory=dict)
    prepare: Sequence[Sequence[str]] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    credentials: tuple[str, str] | None = None


def ask(page: Page, path: str) -> None:
    """Ask as jQuery does, and as a person who reloads: the browser's own cache is not used."""
    page.evaluate(
        "path => fetch(path, {cache: 'reload', headers: {'X-Requested-With': 'XMLHttpRequest'}}).then(r => r.text())",
        path,
    )


def reload(page: Page) -> None:
    page.reload(wait_until="networkidle")


def use_httpbin(page: Page, site: str, number: int) -> None:
    """Look at the documentation, try operations out, set a cookie, send the form, reload what changes."""
    page.goto(site, wait_until="networkidle")
    for path in ("/uuid", "/get?a=1", "/headers", "/cache/60", "/json", "/bytes/100"):
        ask(page, path)
        ask(page, path)
    page.goto(f"{site}/cookies/set?round={number}")
    page.goto(f"{site}/basic-auth/user/passwd")
    for path in (
        "/uuid",
        "/cookies",
        "/ip",
        "/etag/tag",
        "/html",
        "/image/png",
        "/cache",
        "/redirect/2",
    ):
        page.goto(f"{site}{path}")
        reload(page)
    page.goto(f"{site}/forms/post")
    page.fill("input[name=custname]", f"customer {number}")
    page.click("button")
    page.wait_for_load_state("networkidle")
    page.goto(f"{site}/response-headers?Cache-Control=no-store")
    ask(page, "/status/404")


FLASK_ADMIN = """\
import sys

from flask import Flask, redirect, request, session
from flask_admin import Admin, AdminIndexView
from flask_admin.contrib.sqla import ModelView
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config.update(SECRET_KEY="x" * 50, SQLALCHEMY_DATABASE_URI="sqlite:///" + sys.argv[1] + "/db.sqlite3")
db = SQLAlchemy(app)


class Author(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String(80), unique=True)

    def __str__(self):
        return self.name


class Post(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    title = db.Column(db.String(80))
    author_id = db.Column(db.Integer, db.ForeignKey(Author.id))
    author = db.relationship(Author)


class Guarded:
    def is_accessible(self):
        return "user" in session

    def inaccessible_callback(self, name, **kwargs):
        return redirect("/login")


class Home(Guarded, AdminIndexView):
    pass


class AuthorView(Guarded, ModelView):
    column_editable_list = ["name"]
    column_searchable_list = ["name"]


class PostView(Guarded, ModelView):
    form_ajax_refs = {"author": {"fields": ("name",)}}
    create_modal = True


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        session["user"] = request.form["user"]
        return redirect("/admin/")
    return "<!doctype html><form method=post><input name=user><input type=submit></form>"


@app.route("/me")
def me():
    return {"user": session.get("user")}


admin = Admin(app, index_view=Home())
admin.add_view(AuthorView(Author, db))
admin.add_view(PostView(Post, db))
with app.app_context():
    db.create_all()
app.run("127.0.0.1", int(sys.argv[2]), threaded=True)
"""


def use_flask_admin(page: Page, site: str, number: int) -> None:
    """Log in, look at the list while a colleague adds to it; look authors up by name (an XHR), rename one, search."""
    log_in(page, site, f"person {number}")
    context = page.context.browser.new_context()
    colleague = context.new_page()
    log_in(colleague, site, f"colleague {number}")
    for name in ("Ada", "Grace"):
        page.goto(f"{site}/admin/author/", wait_until="networkidle")
        ask(page, "/admin/post/ajax/lookup/?name=author&query=a&offset=0&limit=10")
        ask(page, "/me")
        colleague.goto(f"{site}/admin/author/new/", wait_until="networkidle")
        colleague.fill("input[name=name]", f"{name} {number}")
        colleague.click("input[type=submit] >> nth=0")
        colleague.wait_for_load_state("networkidle")
        page.goto(f"{site}/admin/", wait_until="networkidle")
        page.goto(f"{site}/admin/author/", wait_until="networkidle")
        ask(page, "/admin/post/ajax/lookup/?name=author&query=a&offset=0&limit=10")
    context.close()
    page.goto(f"{site}/admin/author/edit/?id=1", wait_until="networkidle")
    page.fill("input[name=name]", f"Ada the {number}th")
    page.click("input[type=submit] >> nth=0")
    page.goto(f"{site}/admin/author/?search=Ada", wait_until="networkidle")
    page.goto(f"{site}/admin/post/", wait_until="networkidle")
    reload(page)


def log_in(page: Page, site: str, user: str) -> None:
    page.goto(f"{site}/login")
    page.fill("input[name=user]", user)
    page.click("input[type=submit]")
    page.wait_for_load_state("networkidle")


DASH = """\
import itertools
import sys
import time

from dash import Dash, Input, Output, dcc, html

app = Dash(__name__)
visits = itertools.count(1)


# A layout that is a function is made anew for each page load, as Dash's documentation recommends for live data.
def layout():
    return html.Div([
        html.H1(f"visit {next(visits)}", id="head"),
        dcc.Input(id="name", value="nobody", debounce=False),
        dcc.Dropdown(["a", "b"], "a", id="choice"),
        dcc.Graph(id="graph"),
        html.P(id="hello"),
    ])


@app.callback(Output("hello", "children"), Input("name", "value"))
def hello(name):
    return f"Hello {name}"


@app.callback(Output("graph", "figure"), Input("choice", "value"))
def graph(choice):
    return {"data": [{"x": [1, 2], "y": [3, 4], "name": choice}]}


app.layout = layout
app.run(host="127.0.0.1", port=int(sys.argv[2]), debug=False)
"""


def use_dash(page: Page, site: str, number: int) -> None:
    """Open the dashboard, type a name, reload twice."""
    page.goto(site, wait_until="networkidle")
    for text in ("one", "two"):
        page.wait_for_selector("#name")
        page.fill("#name", f"{text} {number}")
        page.get_by_text(f"Hello {text} {number}").wait_for()
        reload(page)


LOCUST = """\
import time

from locust import User, between, task


class Visitor(User):
    wait_time = between(0.05, 0.1)

    @task
    def visit(self):
        self.environment.events.request.fire(
            request_type="GET", name="/shop", response_time=5, response_length=100, response=None, context={}, exception=None
        )
"""


def use_locust(page: Page, site: str, number: int) -> None:
    """Start a test, watch the numbers while they change, look at each tab, download, stop."""
    page.goto(site, wait_until="load")
    start, new = (page.get_by_role("button", name=name, exact=True) for name in ("Start", "New"))
    start.or_(new).first.wait_for()
    if new.is_visible():
        new.click()
    start.click()
    charts = page.get_by_role("tab", name="Charts")
    charts.wait_for()
    for _ in range(2):
        for path in ("/stats/requests", "/tasks", "/logs", "/exceptions"):
            ask(page, path)
        page.wait_for_timeout(1500)  # the numbers change once a second
    for tab in ("Charts", "Failures", "Exceptions", "Statistics"):
        page.get_by_role("tab", name=tab).click()
    page.reload()
    charts.wait_for()
    for _ in range(2):
        for path in ("/stats/requests/csv", "/stats/failures/csv", "/stats/report"):
            ask(page, path)
        page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop", exact=True).click()
    new.wait_for()


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


def use_django(page: Page, site: str, number: int) -> None:
    """Log in, look around, add two groups and ask for their number after each."""
    page.goto(f"{site}/admin/")
    page.fill("#id_username", "root")
    page.fill("#id_password", "secret-of-the-test")
    page.click("input[type=submit]")
    for group in range(2):
        page.goto(f"{site}/admin/auth/group/add/")
        page.fill("#id_name", f"group {number} {group}")
        page.click("input[name=_save]")
        ask(page, "/api/groups")
        page.goto(f"{site}/admin/auth/group/")
        page.goto(f"{site}/admin/auth/user/")


APPS = (
    RealApp(
        "django-admin",
        ("django",),
        ("-m", "django", "runserver", "--noreload", "127.0.0.1:{port}"),
        use_django,
        frozenset(("/api/groups",)),
        {"site_settings.py": SETTINGS, "site_urls.py": URLS},
        prepare=(
            ("-m", "django", "migrate", "-v", "0"),
            (
                *("-m", "django", "createsuperuser", "--noinput"),
                *("--username", "root", "--email", "r@example.com"),
            ),
        ),
        env={
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "DJANGO_SUPERUSER_PASSWORD": "secret-of-the-test",
            "PYTHONPATH": "{dir}",
        },
    ),
    RealApp(
        "httpbin",
        ("httpbin[mainapp]",),
        ("-m", "gunicorn", "-b", "127.0.0.1:{port}", "httpbin:app"),
        use_httpbin,
        frozenset(("/uuid",)),
        credentials=("user", "passwd"),
    ),
    RealApp(
        "flask-admin",
        ("flask-admin", "flask-sqlalchemy"),
        ("app.py", "{dir}", "{port}"),
        use_flask_admin,
        frozenset(("/admin/author/", "/admin/post/ajax/lookup/")),
        {"app.py": FLASK_ADMIN},
    ),
    RealApp(
        "dash",
        ("dash",),
        ("app.py", "{dir}", "{port}"),
        use_dash,
        frozenset(("/_dash-layout",)),
        {"app.py": DASH},
    ),
    RealApp(
        "locust",
        ("locust",),
        (
            *("-m", "locust", "-f", "app.py", "--host", "http://127.0.0.1"),
            *("--web-host", "127.0.0.1", "--web-port", "{port}"),
        ),
        use_locust,
        frozenset(("/stats/requests",)),
        {"app.py": LOCUST},
    ),
)
