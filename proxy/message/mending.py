"""Response heads that RFC 9112 tells a proxy to mend instead of refusing: browsers take them, and so the app works without us.

Mended are line feeds alone for line ends (section 2.2), white space before a colon (5.1), folded lines (5.2) and a length
that is repeated (6.3). What two parsers could still read differently is refused: of what frames a message, only
`Connection` may be folded, and only a list of options, in which no field can hide. Requests are never mended.
"""

from __future__ import annotations

from typing import Final

from proxy.message.errors import MalformedHeadError
from proxy.message.fields import is_token, list_members

_WHITE: Final = b" \t"
_STRICT_END: Final = b"\r\n\r\n"
_FRAMING: Final = (b"content-length", b"transfer-encoding")


def find_head_end(data: bytes) -> int:
    """Return where the first head in `data` ends, whatever its line ends are; -1 when it is not complete."""
    end = data.find(b"\n\r\n")
    bare = data.find(b"\n\n", 0, len(data) if end < 0 else end + 1)
    if bare >= 0:
        return bare + 2
    return end if end < 0 else end + 3


def mend(head: bytes) -> bytes:
    """Write a response's head anew, as RFC 9112 wants it; what is well-formed stays as it is.

    Args:
        head: up to where `find_head_end` says.

    Raises:
        MalformedHeadError: there is no one way to read it.
    """
    if not head.endswith(_STRICT_END) and b"\r" in head:
        raise MalformedHeadError("an empty line of another kind than the line ends before it")
    start, *lines = [line.removesuffix(b"\r") for line in head.split(b"\n")[:-2]]
    fields: list[list[bytes]] = []  # each with the lines that are folded into it
    for line in lines:
        if not line.strip(_WHITE):
            raise MalformedHeadError("an empty line within a head")
        if line.startswith((b" ", b"\t")):
            _fold(fields, line)
        else:
            fields.append([_mend_line(line)])
    return b"\r\n".join([start, *map(_unfolded, fields), b"", b""])


def _fold(fields: list[list[bytes]], line: bytes) -> None:
    """Continue the last field, section 5.2; white space around the line end counts as one space."""
    if not fields or _name(fields[-1][0]) in _FRAMING:
        raise MalformedHeadError("a folded line where it could hide how the message is framed")
    fields[-1][-1] = fields[-1][-1].rstrip(_WHITE)
    fields[-1].append(line.strip(_WHITE))


def _unfolded(lines: list[bytes]) -> bytes:
    if len(lines) == 1:
        return lines[0]
    line = b" ".join(lines)
    if _name(line) == b"connection" and not all(map(is_token, list_members(line.partition(b":")[2]))):
        raise MalformedHeadError("a folded Connection that is no list of options")
    return line


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def _mend_line(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    name = name.rstrip(_WHITE)
    if b"," in value and name.lower() == b"content-length":
        value = b" " + single_length(value.strip(_WHITE))
    return name + colon + value


def single_length(value: bytes) -> bytes:
    """Return the one length of a `Content-Length` value that repeats it (`5, 5`), section 6.3; any other as it is."""
    members = {member.strip(_WHITE) for member in value.split(b",")}
    return members.pop() if len(members) == 1 else value
