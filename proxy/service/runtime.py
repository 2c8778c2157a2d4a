"""Tune the interpreter and the C library so that neither delays requests, and start processes of this program."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import sys
from typing import Any, Final

_SWITCH_S: Final = 2e-4

# mallopt(3). A read of uvloop's is 256 KiB, above glibc's first threshold of 128 KiB.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_BYTES: Final = 1 << 20
_TRIM_BYTES: Final = 4 << 20


def share_fairly() -> None:
    """Shorten the interpreter's switch interval: each turn of the loop may wait that long for a thread that works.

    By default it is 5 ms; threads load and lint rules.
    """
    sys.setswitchinterval(_SWITCH_S)


def settle() -> None:
    """Return memory that only the start needed, and exempt the objects made so far from garbage collection.

    Otherwise each full collection visits all rules: 20 ms for a thousand rules.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_buffers() -> None:
    """Let malloc reuse the memory of read buffers instead of mapping it again for each read.

    This saves two fifths of the CPU time of a 1 MiB download. Only glibc has these options.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


async def start_process(module: str, *arguments: str, **options: Any) -> asyncio.subprocess.Process:  # noqa: ANN401 - of `create_subprocess_exec`
    """Run a module of this program as a process.

    It gets this process's import path, so that nothing in the current directory is imported.
    """
    command = (sys.executable, "-P", "-m", module, *arguments)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await asyncio.create_subprocess_exec(*command, env=environment, **options)
