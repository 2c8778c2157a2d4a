"""What the interpreter is told, so that nothing else that it does holds requests up."""

from __future__ import annotations

import gc
import sys
from typing import Final

_SWITCH_S: Final = 2e-4


def share_fairly() -> None:
    """Let the event loop wait less for a thread that loads or lints rules, or answers /api/explain.

    Each turn of the loop waits once for the lock that the thread holds: for 5 ms unless told otherwise.
    """
    sys.setswitchinterval(_SWITCH_S)


def settle() -> None:
    """Take what start-up has made out of the garbage collector's sight.

    Else each full collection goes through all rules: of a thousand, for 20 ms.
    """
    gc.freeze()
