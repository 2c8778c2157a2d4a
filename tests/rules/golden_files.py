"""Reads `golden/`: broken rules files, each with the exact mistakes that must be reported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).with_name("golden")
_PLAIN = b"-- rules.yaml --\n"
_ESCAPED = b"-- rules.yaml, escaped --\n"
_MISTAKES = b"-- mistakes --\n"


@dataclass(frozen=True)
class Golden:
    """One broken rules file; `data` are its bytes, `mistakes` what is printed about it."""

    name: str
    data: bytes
    mistakes: str


def read_all() -> list[Golden]:
    """Read every golden file, by name."""
    return [_read(path) for path in sorted(DIRECTORY.glob("*.golden"))]


def _read(path: Path) -> Golden:
    text = path.read_bytes()
    if text.startswith(_ESCAPED):
        data, mistakes = text.removeprefix(_ESCAPED).split(_MISTAKES)
        data = re.sub(rb"\\(?:n|x([0-9a-f]{2}))", _unescape, data.replace(b"\n", b""))
    else:
        data, mistakes = text.removeprefix(_PLAIN).split(_MISTAKES)
    return Golden(path.stem, data, mistakes.decode().removesuffix("\n"))


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else b"\n"
