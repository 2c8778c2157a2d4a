"""Reads golden files: a rules file and, below it, exactly what must be said about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_INPUT = re.compile(rb"-- rules\.yaml(?P<escaped>, escaped)? --\n")
_EXPECTED = re.compile(rb"^-- (?:mistakes|warnings) --\n", re.MULTILINE)


@dataclass(frozen=True)
class Golden:
    """One golden file; `data` is the rules file in it, `expected` what is printed about it."""

    name: str
    data: bytes
    expected: str


def read_all(directory: str) -> list[Golden]:
    """Read the golden files of one directory beside this file, by name."""
    return [_read(path) for path in sorted(Path(__file__).with_name(directory).glob("*.golden"))]


def _read(path: Path) -> Golden:
    text = path.read_bytes()
    heading = _INPUT.match(text)
    assert heading is not None, path
    data, expected = _EXPECTED.split(text[heading.end() :])
    if heading["escaped"]:  # line ends, marks and other bytes that editors and git would mend
        data = re.sub(rb"\\(?:n|x([0-9a-f]{2}))", _unescape, data.replace(b"\n", b""))
    return Golden(path.stem, data, expected.decode().removesuffix("\n"))


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else b"\n"
