"""The directory that rules are mounted in, and every way in which its file is replaced."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path


class Volume:
    """The directory that the rules are mounted in, and every way to replace what is in it."""

    def __init__(self, root: Path, text: str) -> None:
        self.root = root / "mounted"
        self.path = self.root / "rules.yaml"
        self._elsewhere = root
        self._numbers = itertools.count()
        self.is_mounted = False
        self.root.mkdir()
        self.path.write_text(text)

    def in_place(self, text: str) -> None:
        self.path.write_text(text)

    def renamed(self, text: str) -> None:
        fresh = self.root / ".rules.yaml.swp"
        fresh.write_text(text)
        fresh.rename(self.path)

    def config_map(self, text: str) -> None:
        """As the kubelet does: a new directory, and one rename of a symbolic link."""
        fresh = self.root / f"..{next(self._numbers)}"
        fresh.mkdir()
        (fresh / "rules.yaml").write_text(text)
        link = self.root / "..data_tmp"
        link.symlink_to(fresh.name)
        old = self.root / "..data"
        before = old.resolve() if old.is_symlink() else None
        link.rename(old)
        if not self.path.is_symlink():
            link.symlink_to("..data/rules.yaml")
            link.rename(self.path)
        if before is not None:
            shutil.rmtree(before)

    def mounted(self, text: str) -> None:
        """Mount another directory over this one, or take it off again from one that was changed meanwhile."""
        if self.is_mounted:
            under = os.open("rules.yaml", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=self._under)
            os.write(under, text.encode())
            os.close(under)
            self.unmount()
            return
        fresh = self._elsewhere / f"bind{next(self._numbers)}"
        fresh.mkdir()
        (fresh / "rules.yaml").write_text(text)
        self._under = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        subprocess.run(["mount", "--bind", str(fresh), str(self.root)], check=True)
        self.is_mounted = True

    def unmount(self) -> None:
        if self.is_mounted:
            os.close(self._under)
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)
            self.is_mounted = False


def may_mount(root: Path) -> bool:
    """Try it: root without CAP_SYS_ADMIN may not."""
    (root / "a").mkdir()
    (root / "b").mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "--bind", str(root / "a"), str(root / "b")], stderr=subprocess.DEVNULL, check=False
        ).returncode
    ):
        return False
    subprocess.run(["umount", str(root / "b")], check=True)
    return True
