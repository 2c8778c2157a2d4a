"""What `audit` and `init` do, as functions that return what to print."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Final

from proxy.audit import report
from proxy.audit.evidence import Evidence
from proxy.audit.har import Recording
from proxy.audit.observation import ASKERS
from proxy.audit.proposals import REQUEST_FIELDS, as_observed
from proxy.rules.loading.loader import loads
from proxy.rules.tools.dry_run import TrialRequest, TrialResponse

MAX_HAR_KEYS: Final = 100_000
"""Cache keys that are kept of HAR files: a recording is short, and the command has the machine for itself."""


def audit_har(
    files: Iterable[tuple[str, BinaryIO]], progress: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Audit what HAR files recorded, all of them as one.

    Args:
        files: the name and the bytes of each.
        progress: called after each read, with the number of bytes.

    Returns:
        The report, as `/api/audit` gives it.

    Raises:
        HarError: one of them is no HAR file.
    """
    evidence = Evidence(secrets.token_bytes(32), max_sampled_keys=MAX_HAR_KEYS)
    recording = Recording()
    for name, file in files:
        for observation in recording.read(file, name, progress):
            evidence.add(observation)
    return report.to_json(report.report_on(evidence, recording.notes()))


def requests_of(found: dict[str, Any]) -> list[tuple[TrialRequest, TrialResponse]]:
    """Return a request for each route of a report, and for each kind of client that asked for it."""
    return [
        (
            TrialRequest(route["method"], route["example"].encode(), REQUEST_FIELDS[asker]),
            TrialResponse(
                200, tuple((b"Content-Type", kind.encode()) for kind in route["content_types"][:1])
            ),
        )
        for route in found["routes"]
        for asker in ASKERS
        if route["asked_by"][asker]
    ]


def start_rules(shipped: str, proposed: str) -> str:
    """Return the text of a new rules file: the shipped one, with proposed rules in mode `observe` at its top.

    They change nothing there, and are counted whatever the rules after them decide. The file has no tests: what holds
    while the proposed rules observe does not hold once they are enforced, and the file must load before and after.

    Args:
        shipped: the rules file that the distribution ships.
        proposed: another rules file, as `Proposals.to_yaml` writes it, or nothing.

    Raises:
        RulesError: the two do not fit together; they do unless the shipped file is no longer what it was.
    """
    if not proposed:
        return shipped
    lines = shipped.split("\n")
    del lines[lines.index("tests:") - 1 :]  # with the comment above it
    rules = as_observed(proposed).partition("\nrules:\n")[2].partition("\ntests:\n")[0]
    lines.insert(lines.index("rules:") + 1, f"\n{_OBSERVED}\n{rules.rstrip()}")
    text = "\n".join([*lines, _TESTS])
    for mode in ("observe", "enforce"):
        loads(text.replace("mode: observe", f"mode: {mode}").encode(), "the new rules file")
    return text


_OBSERVED: Final = """\
  # Proposed by the audit. In mode observe a rule only counts and logs what it would change; enforce puts it in force."""
_TESTS: Final = """\
# Write tests here, under `tests:`. `check` runs them, and so does the proxy before a changed file takes effect.
# `nocache-proxy audit --rules` prints tests for the rules of the audit; they pass once those rules are enforced.
"""
