"""Makes the report in a process of its own: judging 500 routes and trying out their rules takes a second or more.

Run as `python -m proxy.audit.reporting`: reads the frames of all workers from standard input, writes the report as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import sys

from proxy.audit.evidence import Evidence
from proxy.audit.report import report_on, to_json

_NICENESS = 10  # requests come first


def main() -> None:
    """Merge the evidence of all workers and print the report."""
    os.nice(_NICENESS)
    workers: list[list[bytes]] = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the process that started this one
    merged = Evidence(b"not needed any more")
    for frames in workers:
        merged.merge(Evidence.from_frames(frames))
    json.dump(to_json(report_on(merged)), sys.stdout, ensure_ascii=True)


if __name__ == "__main__":
    main()
