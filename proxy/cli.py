"""The command line: commands, flags, environment and exit codes. What a command needs it imports itself."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from proxy import __version__
from proxy.cli_audit import audit, init, report_of
from proxy.cli_flags import (
    ADDRESS,
    ADMIN,
    ADMIN_URL,
    HOSTS,
    LOG_FIELDS,
    NETWORKS,
    UPSTREAM,
    Seconds,
    flag,
    seconds,
)
from proxy.message.status import FINAL

if TYPE_CHECKING:
    from proxy.settings import Address, Upstream

OK: Final = 0
FAILED: Final = 1
CONFIG: Final = 78  # EX_CONFIG of sysexits.h

_CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="nocache-proxy")
def cli() -> None:
    """A reverse-proxy sidecar: no cache ever reuses a response that matches a rule.

    \b
    See it work:          nocache-proxy demo
    Put it before an app: nocache-proxy serve --upstream http://127.0.0.1:5000
    Find what needs it:   nocache-proxy audit --har recording.har
    Ask what a rule does: nocache-proxy explain GET /api -H 'X-Requested-With: XMLHttpRequest'
    """  # noqa: D301 - click's mark for lines to be left as they are


cli.add_command(audit)
cli.add_command(init)


def main() -> None:
    """Run the command line; the entry point of `nocache-proxy`."""
    cli()


@cli.command(short_help="Run the sidecar.")
@flag(
    "--upstream",
    type=UPSTREAM,
    required=True,
    metavar="URL",
    help="The app: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
)
@flag(
    "--listen",
    type=ADDRESS,
    default="127.0.0.1:8080",
    metavar="ADDRESS",
    help="Where clients connect: HOST:PORT, :PORT for all addresses, [IPV6]:PORT or unix:PATH.",
)
@flag(
    "--rules",
    type=click.Path(path_type=Path, readable=False),
    default="config/rules.yaml",
    metavar="FILE",
    help="The rules file; watched, and reloaded when its content changes.",
)
@flag(
    "--admin",
    type=ADMIN,
    default="127.0.0.1:9901",
    metavar="ADDRESS",
    help="Where probes, metrics, API and page are served; 'off' for none. Keep it off public networks.",
)
@flag(
    "--admin-hosts",
    type=HOSTS,
    default="",
    metavar="NAMES",
    help="More host names that the admin listener answers to, comma-separated; it always answers to its address and 'localhost'.",
)
@flag("--workers", type=click.IntRange(1, 64), default=1, help="Processes that share the port; one per core.")
@flag(
    "--access-log",
    type=click.Choice(["json", "text", "off"]),
    default="json",
    help="Format of the access log, or none. With 'text' the application log on standard error is text, too.",
)
@flag(
    "--access-log-file",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Append the access log to a file instead of standard output; SIGUSR1 opens it again.",
)
@flag(
    "--access-log-fields",
    type=LOG_FIELDS,
    default="all",
    metavar="NAMES",
    help="Fields of the access log in JSON, comma-separated, in this order; 'all' for all of them.",
)
@flag(
    "--request-id",
    type=click.Choice(["off", "on"]),
    default="off",
    help="Give requests an X-Request-Id, for the app and the access log, if they have neither it nor a traceparent.",
)
@flag(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The lowest severity that the application log shows.",
)
@flag(
    "--trusted-proxies",
    type=NETWORKS,
    default="loopback",
    metavar="CIDRS",
    help="Peers whose X-Forwarded-* and similar fields are kept: comma-separated networks, 'loopback', 'private' "
    "(loopback, private and shared ranges) or 'none'.",
)
@flag(
    "--forwarded",
    type=click.Choice(["append", "replace", "off"]),
    default="append",
    help="X-Forwarded-For, -Proto and -Host: add to those of trusted peers, write anew, or leave alone.",
)
@flag(
    "--via",
    type=click.Choice(["off", "on"]),
    default="off",
    help="Add Via to requests. An nginx behind the proxy then compresses nothing unless gzip_proxied is set.",
)
@seconds(5, "--connect-timeout", "Until a connection to the app is open.")
@seconds(10, "--request-head-timeout", "From the first byte of a request to the end of its head.")
@seconds(60, "--response-head-timeout", "From the end of a request to the head of the app's response.")
@seconds(300, "--idle-timeout", "Without a byte in either direction of an exchange or tunnel.")
@seconds(75, "--keepalive-timeout", "A client's connection without a request; 0: no reuse.", least=0)
@seconds(
    1.5,
    "--upstream-keepalive-timeout",
    "An idle connection to the app; keep it below the app server's own time-out; 0: no reuse.",
    least=0,
)
@flag(
    "--max-connections",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    help="Open client connections; more get a 503.",
)
@flag(
    "--max-head-size",
    "max_head_size_bytes",
    type=click.IntRange(1024, 16 << 20),
    default=65_536,
    metavar="BYTES",
    help="Largest head of a request or a response.",
)
@flag(
    "--max-request-body",
    "max_request_body_bytes",
    type=click.IntRange(0),
    default=0,
    metavar="BYTES",
    help="Largest content of a request; 0 for no limit.",
)
@flag(
    "--underscore-fields",
    type=click.Choice(["drop", "keep"]),
    default="drop",
    help="Request fields with '_' in the name, which WSGI takes for '-'; keep lets harmless ones through.",
)
@flag(
    "--upstream-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=False),
    default=None,
    metavar="FILE",
    help="Certificates (PEM) to verify an https upstream with, instead of the system's.",
)
@flag(
    "--audit",
    type=click.Choice(["on", "off"]),
    default="on",
    help="Watch which responses caches may reuse, for /api/audit; without an admin listener nothing is watched.",
)
@seconds(0, "--drain-delay", "After SIGTERM, still accept requests while /readyz answers 503.", least=0)
@seconds(25, "--drain-timeout", "After the delay, let requests in flight finish.", least=0)
def serve(**flags: Any) -> None:  # noqa: ANN401 - one for each flag; `Settings` gives them their types
    """Run the sidecar in front of an app.

    Every flag can also be set by an environment variable; flags win. On SIGTERM requests in flight finish first; a
    second SIGTERM ends at once. SIGHUP reloads the rules now. SIGUSR1 opens the access log's file again.

    Exit codes: 0 after SIGTERM or Ctrl-C, 2 for wrong usage, 78 when the rules or settings cannot be used.
    """
    from proxy.rules.loading.diagnostics import RulesError
    from proxy.service import logs
    from proxy.service.environment import warn_of_unknown
    from proxy.service.serve import serve as run
    from proxy.service.sockets import ListenError
    from proxy.settings import Settings, SettingsError

    settings = Settings(**flags)
    logs.configure(settings.log_format, settings.log_level)
    known = [str(each.envvar) for command in cli.commands.values() for each in command.params if each.envvar]
    warn_of_unknown(os.environ, known)
    try:
        sys.exit(run(settings))
    except (RulesError, ListenError, SettingsError) as error:
        is_missing = isinstance(error, RulesError) and not settings.rules.exists()
        click.echo(f"{error}{'; `nocache-proxy init` writes one' if is_missing else ''}", err=True)
        sys.exit(CONFIG)


@cli.command(short_help="Show the bug and the cure.")
@click.option("--keep", is_flag=True, help="Keep all running until Ctrl-C, with pages for any browser.")
def demo(keep: bool) -> None:
    """Show the bug without the proxy and the cure with it.

    Runs a legacy Flask app under gunicorn, the proxy in front of it, and a small client that caches as
    Internet Explorer does. Exit code 0 only if both the bug and the cure were seen.
    """
    from proxy.demo import run

    sys.exit(run(keep=keep))


@cli.command(short_help="Check a rules file.")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, readable=False))
@click.option("--strict", is_flag=True, help="Treat warnings as mistakes.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, readable=False),
    metavar="OLD",
    help="Say which decisions change from this file to FILE.",
)
@click.option(
    "--admin",
    type=ADMIN_URL,
    metavar="URL",
    help="With --against: compare also on the routes that the audit of a running proxy has seen.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file.")
def check(
    files: tuple[Path, ...], strict: bool, against: Path | None, admin: Address | None, as_json: bool
) -> None:
    """Check each rules FILE: its mistakes, warnings and tests. Default: config/rules.yaml; - is standard input.

    With --against, both files decide the same requests: those of the tests in both, and examples of all their globs.

    Exit codes: 0 when all can be used, 1 with every mistake and its line.
    """
    from proxy.audit.commands import requests_of
    from proxy.rules.tools import commands

    if (admin is not None and against is None) or (against is not None and len(files) > 1):
        raise click.UsageError("--admin goes with --against, and that with one FILE.")
    codes = []
    for file in files or (Path(os.environ.get("NOCACHE_PROXY_RULES") or "config/rules.yaml"),):
        code, text = commands.check(file, strict=strict, as_json=as_json)
        if against is not None and code == OK:
            known = [] if admin is None else requests_of(report_of(admin))
            code, text = commands.against(file, against, known, as_json=as_json)
        click.echo(text, err=code != OK and not as_json)
        codes.append(code)
    sys.exit(max(codes))


@cli.command(short_help="Say which rule decides a request, and why.")
@click.argument("method")
@click.argument("target")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A field of the request."
)
@click.option(
    "--response-status",
    type=click.IntRange(FINAL.start, FINAL.stop - 1),
    default=200,
    show_default=True,
    help="Status of the app's response.",
)
@click.option(
    "--response-header",
    "response_headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A field of the app's response.",
)
@click.option(
    "--live",
    type=UPSTREAM,
    metavar="URL",
    help="Ask the app at this address for the response: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
)
@click.option(
    "--rules",
    type=click.Path(path_type=Path, readable=False),
    default="config/rules.yaml",
    show_default=True,
    envvar="NOCACHE_PROXY_RULES",
    help="The rules file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(
    method: str,
    target: str,
    headers: tuple[str, ...],
    response_status: int,
    response_headers: tuple[str, ...],
    live: Upstream | None,
    rules: Path,
    as_json: bool,
) -> None:
    """Say which rule decides a request, and why.

    Prints every rule and condition with the value it saw, the fields of the response before and after, and what
    caches may do with it.

    \b
    Example: nocache-proxy explain GET /file/last_uploaded -H 'X-Requested-With: XMLHttpRequest' \\
               --response-header 'Cache-Control: max-age=600'
    """  # noqa: D301 - as above
    from proxy.audit.explained import caches_of
    from proxy.rules.tools import commands

    try:
        fields = [commands.parse_field(text) for text in headers]
        response_fields = [commands.parse_field(text) for text in response_headers]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if live is not None:
        from proxy.service.live import LiveError, ask

        try:
            answer = ask(live, rules, method, target, fields)
            response_status, response_fields = answer or (response_status, response_fields)
        except LiveError as error:
            raise click.ClickException(str(error)) from error
    explain_with = partial(commands.explain, rules, method, target, fields=fields, as_json=as_json)
    code, text = explain_with(status=response_status, response_fields=response_fields, caches_of=caches_of)
    click.echo(text, err=code != OK and not as_json)
    sys.exit(code)


@cli.command(short_help="Print the JSON Schema of rules files.")
def schema() -> None:
    """Print the JSON Schema of rules files, for editors and other tools."""
    from proxy.rules.tools import commands

    click.echo(commands.schema())


@cli.command(short_help="Probe a running sidecar.")
@flag(
    "--admin",
    type=ADMIN,
    default="127.0.0.1:9901",
    metavar="ADDRESS",
    help="The admin listener, as given to serve.",
)
@click.option("--live", is_flag=True, help="Ask /livez (is it alive?) instead of /readyz (can it serve?).")
@click.option(
    "--timeout",
    type=Seconds(0.1, 60),
    default=3,
    show_default=True,
    metavar="SECONDS",
    help="How long the answer may take.",
)
def healthcheck(admin: Address | None, live: bool, timeout: float) -> None:
    """Probe the admin listener of a running sidecar, in images without curl.

    Exit codes: 0 when it is ready, 1 with the reason when it is not.
    """
    from proxy.service.healthcheck import probe

    if admin is None:
        click.echo("the admin listener is off: there is nothing to probe", err=True)
        sys.exit(FAILED)
    is_well, text = probe(admin, "/livez" if live else "/readyz", timeout)
    click.echo(text, err=not is_well)
    sys.exit(OK if is_well else FAILED)
