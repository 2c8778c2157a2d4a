"""What it takes to ask for a report; `reporting` makes it, in another process, so that this one need not load that code."""

from __future__ import annotations

import pickle
from collections.abc import Sequence


class ReportError(Exception):
    """There is no report; its text says why."""


def encode(workers: Sequence[Sequence[bytes]]) -> bytes:
    """Return what `proxy.audit.reporting` reads: the frames of each worker's evidence."""
    return pickle.dumps([list(frames) for frames in workers])
