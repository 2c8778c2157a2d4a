"""What the interpreter and its C library are told, so that nothing else that they do holds requests up."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from typing import Final

_SWITCH_S: Final = 2e-4

# mallopt(3). A read of uvloop's is 256 KiB, above glibc's first threshold of 128 KiB.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_BYTES: Final = 1 << 20
_TRIM_BYTES: Final = 4 << 20


def share_fairly() -> None:
    """Let the event loop wait less for a thread that loads or lints rules, or answers /api/explain.

    Each turn of the loop waits once for the lock that the thread holds: for 5 ms unless told otherwise.
    """
    sys.setswitchinterval(_SWITCH_S)


def settle() -> None:
    """Give back what only start-up needed, and take what it made out of the garbage collector's sight.

    Else each full collection goes through all rules: of a thousand, for 20 ms.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_buffers() -> None:
    """Have the C library keep the memory of what was read, instead of mapping it anew for each read.

    A download of 1 MiB costs two fifths less CPU so. Other C libraries than glibc have no such switch.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
