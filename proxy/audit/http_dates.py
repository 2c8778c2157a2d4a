"""Dates of HTTP in all their formats, RFC 9110 section 5.6.7."""

from __future__ import annotations

import re
from datetime import UTC, datetime


def parse_http_date(value: str) -> int | None:
    """Read an HTTP-date in any of its three formats, RFC 9110 section 5.6.7, without regard to case.

    Returns:
        Unix seconds, or `None` for what is no date, another zone than GMT included (RFC 9111 section 4.2).
    """
    for pattern in _DATE_FORMATS:
        match = pattern.fullmatch(value.strip(" \t"))
        if match:
            return _unix_time(match)
    return None


_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = "(?:mon|tue|wed|thu|fri|sat|sun)"
_DATE_FORMATS = tuple(
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        rf"{_DAY}, (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} GMT",
        rf"[a-z]{{6,9}}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} GMT",
        rf"{_DAY} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


def _unix_time(match: re.Match[str]) -> int | None:
    month = match["month"].lower()
    if month not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:  # noqa: PLR2004 - as RFC 850 has it
        year += 2000 if year < _RFC850_PIVOT else 1900
    # A leap second is legal, but `datetime` refuses it.
    second = min(int(match["second"]), 59)
    try:
        moment = datetime(
            year,
            _MONTHS.index(month) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            second,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp())


# A two-digit year more than 50 years ahead means the past. Counted from 2026, so that this needs no clock.
_RFC850_PIVOT = 76
