"""The application log: one line an event on standard error, in the format of the access log."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, Literal

from proxy.gateway.log_target import MAX_LINE_BYTES, quoted_within, standard_error

# Together with the other members a line stays below MAX_LINE_BYTES.
_MAX_MESSAGE: Final = MAX_LINE_BYTES * 7 // 8
_MAX_MESSAGE_WITH_EXCEPTION: Final = MAX_LINE_BYTES // 4
_MAX_EXCEPTION: Final = MAX_LINE_BYTES * 5 // 8


def configure(form: Literal["json", "text"], level: str) -> None:
    """Send all log records to standard error, without ever waiting for it."""
    handler = _Handler()
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class _Handler(logging.Handler):
    """Hands lines to a thread: whoever reads standard error may stall."""

    def __init__(self) -> None:
        super().__init__()
        self._target = standard_error()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as `logging` asks of every handler
            self.handleError(record)
        else:
            self._target.write(f"{line}\n".encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        self._target.close()
        super().close()


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message, exception = record.getMessage(), ""
        if record.exc_info:
            text = self.formatException(record.exc_info)
            exception = f', "exception": {quoted_within(text, _MAX_EXCEPTION, keeps="end")}'
        limit = _MAX_MESSAGE_WITH_EXCEPTION if exception else _MAX_MESSAGE
        return (
            f'{{"ts": "{_timestamp(record)}", "level": "{record.levelname.lower()}", '
            f'"logger": {quoted(record.name)}, "message": {quoted_within(message, limit)}{exception}}}'
        )


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_timestamp(record)} {record.levelname.lower()} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _timestamp(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
