"""Hides credentials in what people are shown: whole fields by their names, and parts of targets and values.

Names of fields and parameters are open sets, so they are told by what they contain. What is hidden is hidden whole:
neither its length nor its beginning is shown. A secret within a path cannot be told.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

HIDDEN: Final = b"(hidden)"
"""Stands for a value that is not shown; it may stand in a target."""

# Pages that open a WebSocket can send a token only as one of the protocols that they ask for. `state`, `request_uri` and
# the verifier: OAuth (RFC 6749, 9126, 7636). `RelayState`, `wresult`, `wctx`: SAML, WS-Federation. `hdnea`, ...: Akamai.
_SECRET: Final = re.compile(
    rb"auth|cookie|token|secret|passw|passphrase|pwd|key|session|sess_?id|credential|signature|csrf|xsrf|jwt|saml|otp"
    rb"|nonce|dpop|assertion|bearer|hmac|verifier|websocket-protocol|security[-_]?answer|relay[-_]?state"
    rb"|(?:^|[-_.])(?:code|sig|ticket|sid|pin|pass|pw|mfa|salt|cvv|cvc|ssn)$"
    rb"|^(?:state|request_uri|wresult|wctx|hdnea|hdnts|hdntl|magic|invitation)$",
    re.IGNORECASE,
)
# In targets and in values such as `Location`, `Link` and `Forwarded`. `;` begins a parameter of a path (`;jsessionid=`).
# `%` with digits: a target in a parameter of a target, once encoded or more often (`?next=%2Flogin%3Ftoken%3D...`).
_PARAMETER: Final = re.compile(
    rb"(?:^|[?&;,#\s\"'<]|%(?:25)*(?:3f|26|3b|2c|23|22))"
    rb"((?:(?!%(?:25)*(?:3d|3f|26|3b|2c|23|22))[^=?&;,#\s\"'<])+)(?:=|%(?:25)*3d)",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(rb"\"(?:[^\"\\]|\\.)*\"?|[^&;#\s\"'>]*")
_ENCODED_OBJECT: Final = re.compile(rb"%(?:25)*7b[^&;#\s\"'>]*", re.IGNORECASE)  # JSON in a parameter
_MEMBER: Final = re.compile(rb"(\"([^\"]*)\"\s*:\s*)(?:\"(?:[^\"\\]|\\.)*\"?|[^\s,}\]]+)")  # of a JSON object
# Of a URL, be it encoded in a parameter; without a scheme only with a password, as a path may have `//` and `@`.
_USER: Final = re.compile(
    rb"(://)[^/?#\s\"<>]*(@)"
    rb"|(%(?:25)*3a(?:%(?:25)*2f){2})(?:(?!%(?:25)*(?:2f|3f|23|26))[^/?#&\s\"<>])*(%(?:25)*40)"
    rb"|(//)[^/?#:@\s\"<>]*:[^/?#\s\"<>]*(@)",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(rb"\b(bearer|basic|digest|negotiate|ntlm)(\s+)[^\s,;]+", re.IGNORECASE)
_JWT: Final = re.compile(rb"\beyJ[\w-]{8,}(?:\.[\w-]*)*")  # a JSON Web Token is told by itself, RFC 7519
_MAX_ENCODINGS: Final = 4


def is_secret(name: bytes) -> bool:
    """Tell whether the values of a field or parameter of this name may be credentials."""
    return _SECRET.search(name) is not None


def masked_line(line: bytes) -> bytes:
    """Return a field line without credentials."""
    name, colon, value = line.partition(b":")
    if not colon:
        return line
    return name + b": " + (HIDDEN if is_secret(name) else masked(value.strip(b" \t")))


def masked(text: bytes) -> bytes:
    """Return a request target, or a field's value, without what looks like a credential in it."""
    if b"=" in text or b"%" in text:
        text = _masked_parameters(text)
        text = _ENCODED_OBJECT.sub(_masked_object, text)
    if b'"' in text:
        text = _MEMBER.sub(_masked_member, text)
    text = _USER.sub(rb"\1\3\5" + HIDDEN + rb"\2\4\6", text)
    text = _SCHEME.sub(rb"\1\2" + HIDDEN, text)
    return _JWT.sub(HIDDEN, text)


def _masked_parameters(text: bytes) -> bytes:
    pieces: list[bytes] = []
    done = 0
    for match in _PARAMETER.finditer(text):
        start = match.end()
        if start >= done and is_secret(unquote_to_bytes(match[1])):
            value = _VALUE.match(text, start)
            assert value is not None, "it may be empty"
            pieces += (text[done:start], HIDDEN)
            done = value.end()
    return b"".join([*pieces, text[done:]])


def _masked_object(match: re.Match[bytes]) -> bytes:
    plain = bytes(match[0])
    for _ in range(_MAX_ENCODINGS):
        plain = unquote_to_bytes(plain)
    has_secret = any(is_secret(member[2]) for member in _MEMBER.finditer(plain))
    return HIDDEN if has_secret else bytes(match[0])


def _masked_member(match: re.Match[bytes]) -> bytes:
    is_shown = not is_secret(unquote_to_bytes(match[2]))
    return bytes(match[0]) if is_shown else bytes(match[1]) + b'"' + HIDDEN + b'"'
