"""The command line: commands, flags, environment and exit codes. What a command needs it imports itself."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from proxy import __version__
from proxy.cli_audit import AdminAddress, audit, init, report_of
from proxy.message.status import FINAL

if TYPE_CHECKING:
    from proxy.settings import Address, Upstream

OK: Final = 0
FAILED: Final = 1
CONFIG: Final = 78  # EX_CONFIG of sysexits.h

_ENVIRONMENT: Final = "NOCACHE_PROXY"
_CONTEXT: Final = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
}

F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="nocache-proxy")
def cli() -> None:
    """A reverse-proxy sidecar after which no matching response is ever reused by a cache.

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


class _Parsed(click.ParamType[Any]):
    """A flag whose text is read by a function of `proxy.settings`."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _address(text: str) -> object:
    from proxy.settings import Address

    return Address.parse(text)


def _admin(text: str) -> object:
    return None if text == "off" else _address(text)


def _upstream(text: str) -> object:
    from proxy.settings import Upstream

    return Upstream.parse(text)


def _networks(text: str) -> object:
    from proxy.settings import parse_networks

    return parse_networks(text)


def _hosts(text: str) -> object:
    from proxy.settings import parse_hosts

    return parse_hosts(text)


def _log_fields(text: str) -> object:
    from proxy.settings import parse_log_fields

    return parse_log_fields(text)


def _flag(flag: str, *names: str, **options: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's
    """Declare a flag that can also be set by the environment."""
    options.setdefault("envvar", f"{_ENVIRONMENT}_{flag.strip('-').replace('-', '_').upper()}")
    return click.option(flag, *names, show_default=True, show_envvar=True, **options)


class _Seconds(click.FloatRange):
    """A duration: a range that takes no NaN, which is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        if math.isnan(number := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return number


def _seconds(default: float, flag: str, text: str, *, least: float = 0.001) -> Callable[[F], F]:
    """Declare a duration; the setting's name says its unit, the flag's does not.

    Args:
        least: a time-out of 0 would fail every request where other proxies take it for none.
    """
    name = f"{flag.strip('-').replace('-', '_')}_s"
    return _flag(flag, name, type=_Seconds(least, 86_400), default=default, metavar="SECONDS", help=text)


@cli.command(short_help="Run the sidecar.")
@_flag(
    "--upstream",
    type=_Parsed("address", _upstream),
    required=True,
    metavar="URL",
    help="The app: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
)
@_flag(
    "--listen",
    type=_Parsed("address", _address),
    default="127.0.0.1:8080",
    metavar="ADDRESS",
    help="Where clients come: HOST:PORT, :PORT for all addresses, [IPV6]:PORT or unix:PATH.",
)
@_flag(
    "--rules",
    type=click.Path(path_type=Path, readable=False),
    default="config/rules.yaml",
    metavar="FILE",
    help="The rules file; watched, and reloaded when its content changes.",
)
@_flag(
    "--admin",
    type=_Parsed("address", _admin),
    default="127.0.0.1:9901",
    metavar="ADDRESS",
    help="Where probes, metrics and the admin page are; 'off' for none. Keep it off public networks.",
)
@_flag(
    "--admin-hosts",
    type=_Parsed("names", _hosts),
    default="",
    metavar="NAMES",
    help="Names by which the admin listener may be asked, comma-separated; its address and 'localhost' always may.",
)
@_flag(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    help="Processes that share the port; one for each core to be used.",
)
@_flag(
    "--access-log",
    type=click.Choice(["json", "text", "off"]),
    default="json",
    help="Format of the access log, and of the application log on standard error.",
)
@_flag(
    "--access-log-file",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Append the access log to a file instead of standard output; SIGUSR1 opens it again.",
)
@_flag(
    "--access-log-fields",
    type=_Parsed("names", _log_fields),
    default="all",
    metavar="NAMES",
    help="Fields of the access log in JSON, comma-separated, in this order; 'all' for all of them.",
)
@_flag(
    "--request-id",
    type=click.Choice(["off", "on"]),
    default="off",
    help="Make an X-Request-Id where neither it nor a traceparent comes, for the app and the access log.",
)
@_flag(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="What the application log says at least.",
)
@_flag(
    "--trusted-proxies",
    type=_Parsed("networks", _networks),
    default="loopback",
    metavar="CIDRS",
    help="Peers whose X-Forwarded-* and the like are kept: comma-separated networks, 'loopback', 'private' for "
    "loopback, private and shared ranges, or 'none'.",
)
@_flag(
    "--forwarded",
    type=click.Choice(["append", "replace", "off"]),
    default="append",
    help="X-Forwarded-For, -Proto and -Host: add to those of trusted peers, write anew, or leave alone.",
)
@_flag(
    "--via",
    type=click.Choice(["off", "on"]),
    default="off",
    help="Add a Via to requests; nginx behind it then compresses nothing unless gzip_proxied is set.",
)
@_seconds(5, "--connect-timeout", "Until a connection to the app must stand.")
@_seconds(10, "--request-head-timeout", "From the first byte of a request to the end of its head.")
@_seconds(60, "--response-head-timeout", "From the end of a request to the head of the app's response.")
@_seconds(300, "--idle-timeout", "Without a byte in either direction of an exchange or tunnel.")
@_seconds(75, "--keepalive-timeout", "A client's connection may rest between requests.", least=0)
@_seconds(
    1.5,
    "--upstream-keepalive-timeout",
    "A connection to the app may rest; keep it below the app server's own.",
    least=0,
)
@_flag(
    "--max-connections", type=click.IntRange(1, 1_000_000), default=10_000, help="Of clients; more get a 503."
)
@_flag(
    "--max-head-size",
    "max_head_size_bytes",
    type=click.IntRange(1024, 16 << 20),
    default=65_536,
    metavar="BYTES",
    help="Of a request's or response's head.",
)
@_flag(
    "--max-request-body",
    "max_request_body_bytes",
    type=click.IntRange(0),
    default=0,
    metavar="BYTES",
    help="Of a request's content; 0 for no limit.",
)
@_flag(
    "--underscore-fields",
    type=click.Choice(["drop", "keep"]),
    default="drop",
    help="Request fields with '_' in the name, which WSGI takes for '-'; keep lets harmless ones through.",
)
@_flag(
    "--upstream-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=False),
    default=None,
    metavar="FILE",
    help="Certificates (PEM) to verify an https upstream with, instead of the system's.",
)
@_flag(
    "--audit",
    type=click.Choice(["on", "off"]),
    default="on",
    help="Watch which responses caches may reuse, for /api/audit; without an admin listener nothing is watched.",
)
@_seconds(
    0, "--drain-delay", "After SIGTERM, go on accepting for so long while /readyz already says 503.", least=0
)
@_seconds(25, "--drain-timeout", "After that, exchanges in flight may take so long to end.", least=0)
def serve(**flags: Any) -> None:  # noqa: ANN401 - one a flag; `Settings` gives them their types
    """Run the sidecar in front of an app.

    Every flag can also be set by an environment variable; flags win. SIGTERM drains and ends, a second one
    ends at once; SIGHUP reloads the rules now; SIGUSR1 opens the access log's file again.

    Exit codes: 0 after a drain, 2 for wrong usage, 78 when the rules or settings cannot be used.
    """
    from proxy.rules.loading.diagnostics import RulesError
    from proxy.service import logs
    from proxy.service.environment import warn_of_unknown
    from proxy.service.serve import serve as run
    from proxy.service.sockets import ListenError
    from proxy.settings import Settings, SettingsError

    settings = Settings(**flags)
    logs.configure(settings.log_format, settings.log_level)
    known = {parameter.envvar for command in cli.commands.values() for parameter in command.params}
    warn_of_unknown(os.environ, [name for name in known if isinstance(name, str)])
    try:
        sys.exit(run(settings))
    except (RulesError, ListenError, SettingsError) as error:
        click.echo(str(error), err=True)
        sys.exit(CONFIG)


@cli.command(short_help="Show the bug and the cure.")
@click.option("--keep", is_flag=True, help="Leave everything running and print the addresses, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Show the bug without the proxy and the cure with it.

    Runs a legacy Flask app under gunicorn, the proxy in front of it, and a small client that caches as
    Internet Explorer does. Exit code 0 only if both the bug and the cure were seen.
    """
    from proxy.demo import run

    sys.exit(run(keep=keep))


@cli.command(short_help="Check a rules file.")
@click.argument(
    "file",
    type=click.Path(path_type=Path, readable=False),
    default="config/rules.yaml",
    envvar=f"{_ENVIRONMENT}_RULES",
)
@click.option("--strict", is_flag=True, help="Take warnings for mistakes.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, readable=False),
    metavar="OLD",
    help="Say which decisions change from this file to FILE.",
)
@click.option(
    "--admin",
    type=AdminAddress(),
    metavar="URL",
    help="With --against: ask about the routes that a running proxy's audit knows, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(file: Path, strict: bool, against: Path | None, admin: Address | None, as_json: bool) -> None:
    """Check a rules FILE (config/rules.yaml): its mistakes, warnings and tests.

    With --against, both files are asked about the tests of both, and about requests made of all their globs.

    Exit codes: 0 when it can be used, 1 with every mistake and its line.
    """
    from proxy.audit.commands import requests_of
    from proxy.rules.tools import commands

    if admin is not None and against is None:
        raise click.UsageError("--admin goes with --against.")
    code, text = commands.check(file, strict=strict, as_json=as_json)
    if against is not None and code == OK:
        known = [] if admin is None else requests_of(report_of(admin))
        code, text = commands.against(file, against, known, as_json=as_json)
    click.echo(text, err=code != OK and not as_json)
    sys.exit(code)


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
    help="Of the app.",
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
    type=_Parsed("address", _upstream),
    metavar="URL",
    help="Ask the app at this address for the response: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
)
@click.option(
    "--rules",
    type=click.Path(path_type=Path, readable=False),
    default="config/rules.yaml",
    show_default=True,
    envvar=f"{_ENVIRONMENT}_RULES",
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
        from proxy.service.live import LiveError, fetch_head, forwarded_fields

        forwarded = forwarded_fields(rules, method, target, fields)
        try:
            if forwarded is not None:
                response_status, response_fields = fetch_head(live, method, target, forwarded)
        except LiveError as error:
            raise click.ClickException(str(error)) from error
    code, text = commands.explain(
        rules,
        method,
        target,
        fields=fields,
        status=response_status,
        response_fields=response_fields,
        caches_of=caches_of,
        as_json=as_json,
    )
    click.echo(text, err=code != OK and not as_json)
    sys.exit(code)


@cli.command(short_help="Print the JSON Schema of rules files.")
def schema() -> None:
    """Print the JSON Schema of rules files, for editors and other tools."""
    from proxy.rules.tools import commands

    click.echo(commands.schema())


@cli.command(short_help="Probe a running sidecar.")
@_flag(
    "--admin",
    type=_Parsed("address", _admin),
    default="127.0.0.1:9901",
    metavar="ADDRESS",
    help="The admin listener, as given to serve.",
)
@click.option("--live", is_flag=True, help="Ask /livez (is it alive?) instead of /readyz (can it serve?).")
@click.option(
    "--timeout",
    type=_Seconds(0.1, 60),
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
