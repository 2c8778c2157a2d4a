"""One answer as the audit sees it: a plain value, made by the gateway's records or by a HAR file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

from proxy.message.fields import Field, Fields, list_members, values_of

Asker = Literal["xhr", "fetch", "page", "other"]
ASKERS: Final[tuple[Asker, ...]] = ("xhr", "fetch", "page", "other")

NOT_MODIFIED: Final = 304
DIGEST_BYTES: Final = 8
_BLOCKS: Final = 256
_SUM_BYTES: Final = 2
_PAGE_DESTINATIONS: Final = frozenset((b"document", b"iframe", b"frame", b"embed", b"object"))
# Cookies that scripts set for statistics: they change between two requests of one user, and give access to nothing.
# Google, Matomo, Meta, Hotjar, Microsoft, Segment, Mixpanel, Amplitude, Datadog, HubSpot.
_STATISTICS: Final = re.compile(
    rb"_ga(?:_.*)?|_gid|_gat.*|_gcl_.*|__utm.|_pk_.*|_fb[pc]|_hj.*|_cl(?:ck|sk)|_uet.id|ajs_.*|mp_.*|amp_.*|AMP_.*|_dd_s|__hs.*"
)


@dataclass(frozen=True, slots=True)
class Content:
    """What is kept of an answer's content: enough to compare it with another, too little to read it.

    Attributes:
        digest: of all of it.
        size: in bytes.
        blocks: a short checksum for each 256th part of it, or empty where nobody computed them.
    """

    digest: int
    size: int
    blocks: bytes = b""


@dataclass(frozen=True, slots=True)
class Observation:
    """One final response to one request.

    Attributes:
        at_s: Unix time at which the response arrived.
        authority: host and port, as part of the cache key.
        target: the request target in origin-form, as sent.
        request_fields: as the client sent them.
        response_fields: as the app sent them, before any policy.
        content: `None` where it was not seen: other statuses than 200, too long, or a HAR file without content.
        shown_asker: who asked, where the recording knows more than the fields; no rule can see it.
        is_protected: a rule whose policy forbids reuse without validation decided.
        is_from_cache: the browser answered from its cache (HAR only).
        rules: digest of the rules that protected it, where it is known.
    """

    at_s: float
    method: str
    authority: bytes
    target: bytes
    status: int
    request_fields: Fields
    response_fields: Fields
    content: Content | None = None
    shown_asker: Asker | None = None
    is_protected: bool = False
    is_from_cache: bool = False
    rules: str = ""


def asker_of(fields: Fields) -> Asker:
    """Tell who sent a request: a script with `X-Requested-With`, another script, a page view, or something else."""
    if any(member.lower() == b"xmlhttprequest" for member in _members(fields, b"x-requested-with")):
        return "xhr"
    destination = _joined(fields, b"sec-fetch-dest")
    if destination is not None:
        if destination == b"empty":
            return "fetch"
        return "page" if destination in _PAGE_DESTINATIONS else "other"
    accepted = _members(fields, b"accept")
    return "page" if accepted and accepted[0].startswith((b"text/html", b"application/xhtml")) else "other"


class Keys:
    """Turns what identifies a cached response, and who asked for it, into numbers that cannot be read back.

    Args:
        secret: random for each run and shared by its workers: digests of credentials mean nothing elsewhere.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def cache_key(self, observation: Observation) -> int:
        """Digest the target and the request fields that the response's `Vary` names, RFC 9111 section 4.1."""
        parts = [observation.authority.lower(), observation.target]
        for name in sorted({member.lower() for member in _members(observation.response_fields, b"vary")}):
            value = _joined(observation.request_fields, name)
            parts += [name, b"-" if value is None else b"+" + b"".join(value.split())]
        return self._digest(parts)

    def credentials(self, fields: Fields) -> int:
        """Digest `Cookie`, without cookies for statistics, and `Authorization`; 0 when there is neither."""
        cookies, authorization = sorted(_cookies(fields)), _joined(fields, b"authorization")
        if not cookies and not authorization:
            return 0
        return self._digest([authorization or b"", *cookies]) or 1

    def _digest(self, parts: Sequence[bytes]) -> int:
        framed = b"".join(len(part).to_bytes(4) + part for part in parts)
        return int.from_bytes(blake2b(framed, key=self._secret, digest_size=DIGEST_BYTES).digest())


def changes_cookies(seen: Observation) -> bool:
    """Tell whether an answer changes its client's cookies, so that the next request has other credentials."""
    given = (value.partition(b";")[0] for value in values_of(seen.response_fields, b"set-cookie"))
    return not _that_count(given) <= _cookies(seen.request_fields)


def _cookies(fields: Fields) -> set[bytes]:
    """Return the cookies of a request, as pairs of name and value."""
    return _that_count(pair for value in values_of(fields, b"cookie") for pair in value.split(b";"))


def _that_count(pairs: Iterable[bytes]) -> set[bytes]:
    """Leave out cookies for statistics."""
    stripped = (pair.strip() for pair in pairs)
    return {pair for pair in stripped if pair and not _STATISTICS.fullmatch(pair.partition(b"=")[0])}


def validator_of(observation: Observation) -> int:
    """Digest what stands for content that was not seen: an odd number for an `ETag`, an even one for lengths.

    Numbers of the two kinds cannot be compared. `Last-Modified` does not count: many apps send the current time.
    """
    etag = _joined(observation.response_fields, b"etag") or _only_condition(observation)
    if etag:
        return _digest(etag.removeprefix(b"W/")) | 1
    names = (b"location", b"content-length")
    values = [_joined(observation.response_fields, name) or b"" for name in names]
    return _digest(b"\0".join(values)) & ~1


def _only_condition(observation: Observation) -> bytes | None:
    """The entity tag that a 304 without `ETag` confirms."""
    if observation.status != NOT_MODIFIED:
        return None
    condition = _joined(observation.request_fields, b"if-none-match")
    return None if condition is None or b"," in condition or condition == b"*" else condition


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=DIGEST_BYTES).digest())


def digest_content(data: bytes) -> Content:
    """Digest content that is at hand as a whole."""
    step = -(-len(data) // _BLOCKS) or 1
    view = memoryview(data)
    sums = (
        blake2b(view[at : at + step], digest_size=_SUM_BYTES).digest() for at in range(0, len(data), step)
    )
    return Content(_digest(data) or 1, len(data), b"".join(sums))


def differing_share(one: bytes, other: bytes) -> float | None:
    """Return the share of blocks in which two contents of the same length differ; `None` if that is unknown."""
    if not one or len(one) != len(other):
        return None
    pairs = range(0, len(one), _SUM_BYTES)
    return sum(one[at : at + _SUM_BYTES] != other[at : at + _SUM_BYTES] for at in pairs) / len(pairs)


def media_type(fields: Fields) -> str:
    """Return the media type without parameters, lower case; empty if there is none that can be read."""
    value = (_joined(fields, b"content-type") or b"").partition(b";")[0].strip(b" \t").lower()
    return value.decode("ascii") if _MEDIA_TYPE.fullmatch(value) else ""


def first_value(fields: Fields, name: bytes) -> bytes | None:
    """Return the value of the first line of a field, whose name is given in lower case."""
    return next((value for key, value in fields if key.lower() == name), None)


_MEDIA_TYPE: Final = re.compile(rb"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,63}")


def _joined(fields: Fields, name: bytes) -> bytes | None:
    values = values_of(fields, name)
    return b", ".join(values) if values else None


def _members(fields: Sequence[Field], name: bytes) -> list[bytes]:
    return list_members(_joined(fields, name) or b"")
