"""Makes observations for the tests of the audit: one line each."""

from __future__ import annotations

from proxy.audit.evidence import Evidence
from proxy.audit.observation import Observation, digest_content
from proxy.audit.report import Report, report_on
from proxy.message.fields import Field

XHR: Field = (b"X-Requested-With", b"XMLHttpRequest")
FETCH: Field = (b"Sec-Fetch-Dest", b"empty")
PAGE: Field = (b"Sec-Fetch-Dest", b"document")
START_S = 1_700_000_000.0


def answer(
    at_s: float,
    target: str,
    content: bytes | None = b"content",
    *asked_with: Field,
    method: str = "GET",
    status: int = 200,
    kind: str = "application/json",
    protected: bool = False,
    from_cache: bool = False,
    rules: str = "",
    **fields: str,
) -> Observation:
    """One answer, `at_s` seconds after the start; `cache_control="max-age=60"` is a field of the response."""
    said = [(b"Content-Type", kind.encode())] if kind else []
    said += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return Observation(
        at_s=START_S + at_s,
        method=method,
        authority=b"app",
        target=target.encode(),
        status=status,
        request_fields=asked_with,
        response_fields=tuple(said),
        content=None if content is None else digest_content(content),
        is_protected=protected,
        is_from_cache=from_cache,
        rules=rules,
    )


def cookie(value: str) -> Field:
    return b"Cookie", f"session={value}".encode()


def evidence_of(*answers: Observation, **bounds: int) -> Evidence:
    evidence = Evidence(b"secret of the tests", **bounds)
    for seen in answers:
        evidence.add(seen)
    return evidence


def report_of(*answers: Observation) -> Report:
    return report_on(evidence_of(*answers))


def verdicts_of(*answers: Observation) -> dict[str, str]:
    """The verdict by route; `GET` is left out."""
    return {
        " ".join((*([f.route[0]] if f.route[0] != "GET" else []), "/" + "/".join(f.route[1:]))): f.verdict
        for f in report_of(*answers).findings
    }
