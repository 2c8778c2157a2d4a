"""What an app may read where a client sends a field: once, twice, or with white space that only some servers take off."""

from __future__ import annotations

from proxy.message.fields import list_members
from proxy.message.request import FieldLines


def lines_of(sent: FieldLines) -> tuple[bytes, ...]:
    """Return the lines of a field that rules read, in order."""
    if sent is None:
        return ()
    return (sent,) if isinstance(sent, bytes) else sent


def field_readings(sent: FieldLines) -> list[str | None]:
    """Return the values that an app may find in a field, each once.

    Of several lines most servers join all (with `,` or `, `), some keep the first or the last (cheroot). And wsgiref,
    on which Werkzeug's and Django's servers are built, takes off all that Python counts as white space: 0x85 and 0xA0.
    """
    if sent is None:
        return [None]
    if isinstance(sent, bytes):
        line = sent.decode("latin-1")
        stripped = line.strip()
        return [line] if stripped == line else [line, stripped]
    lines = [line.decode("latin-1") for line in sent]
    readings: list[str | None] = []
    for each in (lines, [line.strip() for line in lines]):
        for reading in (", ".join(each), ",".join(each), each[0], each[-1]):
            if reading not in readings:
                readings.append(reading)
    return readings


def methods_named(sent: FieldLines) -> set[str]:
    """Return the methods that a field may put in the place of the one that was sent."""
    members = [member.decode("latin-1") for line in lines_of(sent) for member in list_members(line)]
    return {member.upper() for member in members} | {member.strip().upper() for member in members}
