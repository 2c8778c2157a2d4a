"""The watched rules file: a change is recognised by its content, and checked and tested before it applies.

Editors rename files, orchestrators swap symbolic links, bind mounts keep the inode, copies are half written:
comparing the bytes handles all of these. An invalid file leaves the previous rules in force.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.rules.loading import loader
from proxy.rules.loading.diagnostics import Mistake, RulesError
from proxy.rules.tools.difference import compare
from proxy.service.background import Background

if TYPE_CHECKING:
    from proxy.rules.loading.loader import RulesFile

_log = logging.getLogger(__name__)

# Some mounts do not update size and times: read the bytes at least this often.
_READ_ANYWAY_S: Final = 30.0
# A writer in place may pause, and half a file may be a valid file with fewer rules.
_STILL_S: Final = 0.5
PATIENCE_S: Final = 10.0
"""After this time a file system that has not answered is reported."""
_LATE: Final = f"its file system has not answered for {PATIENCE_S:g} s"
_NEVER: Final[tuple[int, ...] | None] = (-1,)
_MOUNT_POINT_FIELD: Final = 4


@dataclass(frozen=True, slots=True)
class RulesStatus:
    """The state of the rules file.

    Attributes:
        source: its path.
        digest: of the bytes in force, the first 12 hex digits of their SHA-256.
        loaded_at_s: when they took effect, seconds since the epoch.
        last_reload_ok: whether the newest content is the one in force.
        last_error: why not, one line a mistake; empty when it is.
        reloads, failed_reloads: counted since the start.
    """

    source: str
    digest: str
    loaded_at_s: float
    last_reload_ok: bool = True
    last_error: str = ""
    reloads: int = 0
    failed_reloads: int = 0


class RulesSource:
    """Reads a rules file, at the start and again whenever its content has changed.

    Raises:
        RulesError: the file cannot be used at the start.

    Attributes:
        rules_file: in force.
        status: the outcome of the latest reload.
        background: the thread in which the file is looked at, read and checked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Equal to no file's: the file is read once more, in case it is being written now.
        self._last_stat = self._read_stat = _NEVER
        self._still_since_s = time.monotonic()
        self.background = Background("rules")
        try:
            data = self.background.call(_read, path).result(PATIENCE_S)
        except TimeoutError:
            raise RulesError([Mistake(0, 0, "", _LATE, source=str(path))]) from None
        self._seen_digest = _digest(data)
        self._read_at_s = time.monotonic()
        self.data = data
        self.rules_file = use(data, str(path))
        self.status = RulesStatus(str(path), self.rules_file.digest, time.time())

    def has_changed(self) -> bytes | None:
        """Return the file's content if it has changed; cheap while nobody touches the file.

        Read only after a moment without change: a writer may not be done, and a missing file may come back.
        """
        seen, now_s = _stat(self._path), time.monotonic()
        if seen != self._last_stat:
            self._last_stat = seen
            self._still_since_s = now_s
            return None
        is_settled = now_s - self._still_since_s >= _STILL_S
        is_due = now_s - self._read_at_s >= _READ_ANYWAY_S
        if not is_settled or (seen == self._read_stat and not is_due):
            return None
        self._read_stat = seen
        self._read_at_s = time.monotonic()
        try:
            data = _read(self._path)
        except RulesError as error:
            if self._seen_digest:
                self._fail(str(error))
            self._seen_digest = b""  # so that any content counts as changed
            return None
        digest = _digest(data)
        if digest == self._seen_digest:
            return None
        self._seen_digest = digest
        return data

    def reload(self, data: bytes | None = None) -> bool:
        """Load content and apply it if it is valid; without content, read the file. Return whether it was applied.

        May run in a thread: rules are assigned once, when they are compiled.
        """
        try:
            if data is None:
                data = _read(self._path)
                self._seen_digest = _digest(data)
            rules_file = use(data, str(self._path))
        except RulesError as error:
            self._fail(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a mistake of ours: old rules stay, and the watching goes on
            self._fail(f"{self._path}: the proxy failed on this file: {error!r}", is_ours=True)
            return False
        difference = compare(self.rules_file.rules, rules_file.rules)
        self.data = data
        self.rules_file = rules_file
        self.status = replace(
            self.status,
            digest=rules_file.digest,
            loaded_at_s=time.time(),
            last_reload_ok=True,
            last_error="",
            reloads=self.status.reloads + 1,
        )
        _log.info(
            "rules reloaded from %s: %d rules, digest %s; %s",
            self._path,
            len(rules_file.rules),
            rules_file.digest,
            difference,
        )
        return True

    def is_late(self) -> None:
        """Report that the file system does not answer; the previous rules stay in force."""
        self._seen_digest = b""  # so that any content counts as changed
        self._fail(f"{self._path}: {_LATE}")

    def failed_by_itself(self, error: Exception) -> None:
        """Report an exception of this program in watching the file or applying rules; call it while handling that exception."""
        self._seen_digest = b""  # so that any content counts as changed
        self._note_failure(f"{self._path}: the proxy failed while it watched this file: {error!r}")
        _log.exception("watching the rules failed; it goes on")

    def _note_failure(self, text: str) -> None:
        self.status = replace(
            self.status, last_reload_ok=False, last_error=text, failed_reloads=self.status.failed_reloads + 1
        )

    def _fail(self, text: str, *, is_ours: bool = False) -> None:
        self._note_failure(text)
        _log.error(
            "rules not reloaded, those of digest %s stay in force: %s",
            self.status.digest,
            text.replace("\n", "; "),
            exc_info=is_ours,
        )


def use(data: bytes, source: str) -> RulesFile:
    """Read, check and test the content of a rules file.

    Raises:
        RulesError: it has mistakes, or a test in it fails.
    """
    from proxy.rules.tools import rule_tests  # noqa: PLC0415 - only a file with tests needs it

    rules_file = loader.loads(data, source)
    failures = rule_tests.run(rules_file)
    if failures:
        raise RulesError(failures)
    return rules_file


def mount_that_never_changes(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """Tell whether the rules file itself is a mount point, which keeps showing the old inode.

    A ConfigMap mounted by `subPath`, or a file bind-mounted alone, never shows what replaces it.
    """
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    resolved = os.path.realpath(path)
    return any(
        _unescape(line.split(" ")[_MOUNT_POINT_FIELD]) == resolved
        for line in lines
        if line.count(" ") > _MOUNT_POINT_FIELD
    )


def _unescape(mount_point: str) -> str:
    return (
        mount_point.encode("latin-1", "replace").decode("unicode_escape")
        if "\\" in mount_point
        else mount_point
    )


def _read(path: Path) -> bytes:
    """Read a regular file or fail: reading a FIFO or device might never end.

    Raises:
        RulesError: it cannot be read.
    """
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = (
                "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
            )
            text = f"found {kind}, allowed: a file, which can be read again"
            raise RulesError([Mistake(0, 0, "", text, source=str(path))])
    return loader.read_bytes(path)


def _stat(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
