"""What judges were shown, and what the audit said of the same routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from proxy.audit.evidence import Evidence
from proxy.audit.observation import Observation, digest_content
from proxy.audit.verdicts import judge
from proxy.message.fields import Field
from tests.audit.truth.resources import Resource

USERS = ("alice", "bob")


@dataclass
class Shown:
    """The routes where some judge was shown old content, or another user's, with the judges' names."""

    stale: dict[str, set[str]] = field(default_factory=dict)
    leak: dict[str, set[str]] = field(default_factory=dict)

    def note(self, name: str, resource: Resource, step: int, user: str, content: bytes) -> None:
        found = re.fullmatch(r"(\S+) v(\d+) (\w+)", content.decode())
        assert found is not None, f"{name} got {content!r} of {resource.path}"
        path, version, owner = found.groups()
        assert path == resource.path
        if owner not in (user, "all"):
            self.leak.setdefault(path, set()).add(name)
        if int(version) != resource.version(step):
            self.stale.setdefault(path, set()).add(name)


def request_fields(resource: Resource, user: str) -> list[Field]:
    sent = {"Cookie": f"session={user}", "Accept": "*/*", **resource.sends}
    return [(name.encode(), value.replace("{user}", user).encode()) for name, value in sent.items()]


def observe(
    evidence: Evidence,
    resource: Resource,
    user: str,
    at_s: float,
    answer: tuple[int, Sequence[Field], bytes],
) -> None:
    status, fields, content = answer
    evidence.add(
        Observation(
            at_s=at_s,
            method="GET",
            authority=b"app",
            target=resource.path.encode(),
            status=status,
            request_fields=request_fields(resource, user),
            response_fields=list(fields),
            content=digest_content(content),
        )
    )


def compare(evidence: Evidence, shown: Shown, resources: Iterable[Resource]) -> None:
    """Every route that a judge was shown wrongly is found; of what is found, 95 % was shown."""
    said = {"/" + "/".join(finding.route[1:]): finding for finding in judge(evidence)}
    assert said.keys() == {resource.path for resource in resources}
    missed_stale = {
        p: by for p, by in shown.stale.items() if not (said[p].stale or said[p].verdict == "leak")
    }
    assert missed_stale == {}, missed_stale
    missed_leaks = {path: by for path, by in shown.leak.items() if said[path].verdict != "leak"}
    assert missed_leaks == {}, missed_leaks
    called = {path for path, finding in said.items() if finding.verdict in ("stale", "leak")}
    wrong = called - shown.stale.keys() - shown.leak.keys()
    assert len(wrong) <= 0.05 * len(called), f"{len(wrong)} of {len(called)}: {sorted(wrong)}"
    print(
        f"{len(said)} routes; shown to judges: {len(shown.stale)} stale, {len(shown.leak)} leaks; "
        f"called stale or leak: {len(called)}, of these not shown: {sorted(wrong)}"
    )
