"""The commands `audit` and `init`: flags, files, exit codes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from proxy.cli_flags import ADMIN_URL

if TYPE_CHECKING:
    from proxy.settings import Address

_OK: Final = 0
_FOUND: Final = 1
_STANDARD_INPUT: Final = Path("-")
_SCHEMA_NAME: Final = "rules.schema.json"


@click.command(short_help="Say what caches may reuse, and the rule that cures it.")
@click.option(
    "--admin",
    type=ADMIN_URL,
    default="127.0.0.1:9901",
    envvar="NOCACHE_PROXY_ADMIN",
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="The admin listener of the running proxy; not used with --har.",
)
@click.option(
    "--har",
    "har",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    multiple=True,
    metavar="FILE...",
    help="Read recordings of a browser instead; '-' is standard input.",
)
@click.argument(
    "more",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    nargs=-1,
    metavar="",
)
@click.option(
    "--rules", "as_rules", is_flag=True, help="Print only the proposed rules, as a rules file with tests."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--fail-on",
    type=click.Choice(["stale", "leak", "possible"]),
    help="Exit with 1 if a route is that bad or worse. The worst is leak, then comes stale, then possible.",
)
def audit(
    admin: Address,
    har: tuple[Path, ...],
    more: tuple[Path, ...],
    as_rules: bool,
    as_json: bool,
    fail_on: Any,  # noqa: ANN401 - one of the words above, or None
) -> None:
    """Say what caches may reuse, what went stale while they might, and the rule that cures it.

    Asks a running proxy what it has seen, or reads what a browser recorded, without any deployment. To record:
    open the Network tab of the developer tools and tick "Disable cache", so that the app is asked each time; use the
    app, each page more than once and with changes in between; save as HAR, with content and with sensitive data.
    Neither content nor credentials are ever printed.

    \b
    leak       a shared cache could show one user's content to another
    stale      the content changed while some cache could still answer with the old one
    possible   caches may reuse it; no change was seen
    protected  a rule forbids reuse
    fine       nothing may be reused, or it is a file that does not change

    \b
    A running proxy: nocache-proxy audit
    A recording:     nocache-proxy audit --har recording.har
    The cure:        nocache-proxy audit --har recording.har --rules > proposed.yaml
    In a test:       nocache-proxy audit --har recording.har --fail-on stale

    Exit codes: 0, 1 when --fail-on found something, 2 when there is no report or a file cannot be read.
    """  # noqa: D301 - click's mark for lines to be left as they are
    from proxy.audit import report

    if as_rules and as_json:
        raise click.UsageError("--rules and --json exclude each other; the JSON object has the rules, too.")
    found = _report(admin, (*har, *more))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif as_rules:
        click.echo(found["rules"] or "# Nothing needs a rule.", nl=not found["rules"])
    else:
        click.echo(report.to_text(found))
    sys.exit(_FOUND if fail_on and report.reaches(found, fail_on) else _OK)


@click.command(short_help="Write a rules file to begin with.")
@click.argument(
    "file", type=click.Path(path_type=Path), default="config/rules.yaml", envvar="NOCACHE_PROXY_RULES"
)
@click.option(
    "--har",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    multiple=True,
    metavar="FILE",
    help="Add the rules that the audit of this recording proposes, in mode observe.",
)
@click.option(
    "--admin",
    type=ADMIN_URL,
    metavar="URL",
    help="Add the rules that the audit of a running proxy proposes, in mode observe.",
)
def init(file: Path, har: tuple[Path, ...], admin: Address | None) -> None:
    """Write a commented rules FILE (default: config/rules.yaml) and its JSON Schema where there is none.

    The file has the rules that nocache-proxy ships, in force, and above them what the audit proposes, if it is asked:
    those rules only count and log what they would change. An existing file is never changed.

    Exit codes: 0, 1 when the file exists or cannot be written, 2 when there is no report or a recording
    cannot be read.
    """
    from proxy.audit.commands import start_rules
    from proxy.demo.stage import shipped_rules
    from proxy.rules.tools.commands import schema

    if file.exists():
        raise click.ClickException(
            f"{file} exists, and is left as it is. Name another FILE, or add to it what `audit --rules` prints."
        )
    proposed = _report(admin, har)["rules"] if har or admin else ""
    text = start_rules(shipped_rules().read_text(encoding="utf-8"), proposed)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for path, content in ((file, text), (file.with_name(_SCHEMA_NAME), f"{schema()}\n")):
            click.echo(_write_new(path, content))
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    click.echo(f"Next: nocache-proxy check {file}")


def _report(admin: Address | None, files: tuple[Path, ...]) -> dict[str, Any]:
    if not files and admin is not None:
        return report_of(admin)
    from proxy.audit.commands import audit_har
    from proxy.audit.har import HarError

    try:
        if _STANDARD_INPUT in files or not sys.stderr.isatty():
            return audit_har(_opened(files))
        length = sum(path.stat().st_size for path in files)
        with click.progressbar(length=length, label="Reading", file=sys.stderr) as bar:
            return audit_har(_opened(files), bar.update)
    except HarError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from error


def report_of(admin: Address) -> dict[str, Any]:
    """Ask a running proxy for its report; a failure counts as wrong usage."""
    from proxy.audit.report_call import ReportError
    from proxy.service.audit_client import fetch_report

    try:
        return fetch_report(admin)
    except ReportError as error:
        raise click.UsageError(f"no report from {error}") from error


def _opened(files: tuple[Path, ...]) -> Iterator[tuple[str, BinaryIO]]:
    for path in files:
        if path == _STANDARD_INPUT:
            yield "standard input", sys.stdin.buffer
        else:
            with path.open("rb") as file:
                yield str(path), file


def _write_new(path: Path, content: str) -> str:
    with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        file.write(content)
        return f"wrote {path}"
    return f"{path} exists, and is left as it is"
