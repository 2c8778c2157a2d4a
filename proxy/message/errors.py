"""What can be wrong with a message, each kind with the status that answers a client who sent it."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class MessageError(ValueError):
    """A message that must not be forwarded. Its text is one line for the log and the answer, without a byte of the message.

    Attributes:
        status: answers a client that sent the message. What an upstream sent is answered with 502, whatever it is.
    """

    status: ClassVar[int] = HTTPStatus.BAD_REQUEST.value


class MalformedHeadError(MessageError):
    """A head that is not HTTP/1.1, or that two parsers could read differently."""


class TooManyFieldsError(MessageError):
    """A head with more field lines than anybody needs."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE.value


class TargetError(MessageError):
    """The request target, or the `Host` beside it, is one that no two parsers need agree on."""


class PathTooLongError(MessageError):
    """The path is too long to be matched against rules in time."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG.value


class MethodNotForwardedError(MessageError):
    """A method that only a forward proxy serves."""

    status = HTTPStatus.NOT_IMPLEMENTED.value


class MalformedContentError(MessageError):
    """Content that is not in the chunked coding although its head says so."""
