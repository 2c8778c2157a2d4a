"""What the audit remembers, by one worker or by all: routes, each with the versions of some of its cache keys.

Memory is bounded by sampling: a cache key is kept if its digest is below a threshold, which halves when there are too
many, or is among the smallest of its route. Which keys are kept depends on their digests alone, so all workers keep the
same ones. Nothing is kept that can be read back: keys and credentials are keyed digests, contents plain ones.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable, Iterator
from typing import Final, Self

from proxy.audit.observation import (
    NOT_MODIFIED,
    Keys,
    Observation,
    changes_cookies,
    media_type,
    validator_of,
)
from proxy.audit.permission import Permission, permission_of
from proxy.audit.route_evidence import RouteEvidence, smallest
from proxy.audit.routes import RouteTree, segments_of
from proxy.audit.static import disguise_of
from proxy.audit.versions import KeyEvidence, Version

MAX_SAMPLED_KEYS: Final = 2000
KEYS_PER_ROUTE: Final = 4
_MAX_BLOCKS: Final = 4096  # of 512 bytes each; only HAR files give them
_RESERVED_ROUTES: Final = 250  # for answers that are no errors: a scanner's 404s must not take all the room
_OK: Final = 200
_PARTIAL: Final = 206
_BAD_REQUEST: Final = 400


_ROUTES_A_FRAME: Final = 10
_SCALARS: Final = ("since_s", "responses", "unexamined", "dropped", "_threshold")


class Evidence:
    """What was seen since a moment, by one worker or by all.

    Args:
        secret: see `Keys`.
        max_sampled_keys, keys_per_route: bounds of memory; 4,000 keys and 500 routes take less than 8 MiB.

    Attributes:
        responses: all of them; `unexamined` were only counted, as there were too many in a second; `dropped` belong
            to routes for which there was no room.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        max_sampled_keys: int = MAX_SAMPLED_KEYS,
        keys_per_route: int = KEYS_PER_ROUTE,
    ) -> None:
        self.since_s = math.inf
        self.responses = 0
        self.unexamined = 0
        self.dropped = 0
        self.routes: RouteTree[RouteEvidence] = RouteTree(RouteEvidence)
        self.blocks: dict[int, bytes] = {}
        self._keys = Keys(secret)
        self._max_sampled_keys = max_sampled_keys
        self._keys_per_route = keys_per_route
        self._threshold = 1 << 64
        self._sampled = 0
        self._folds = 0

    def add(self, seen: Observation, times: int = 1) -> None:
        """Take in one answer, which was given `times` times in a row."""
        self.since_s = min(self.since_s, seen.at_s)
        self.responses += times
        path = seen.target.partition(b"?")[0]
        method = "GET" if seen.method == "HEAD" else seen.method
        is_error = seen.status >= _BAD_REQUEST
        route = self.routes.find_or_add(
            (method, *segments_of(path)), reserve=_RESERVED_ROUTES if is_error else 0
        )
        if route is None:
            self.dropped += times
            return
        if self._folds != self.routes.folds:
            self._folds = self.routes.folds
            self._sample_anew()  # routes that were folded into one have too many keys
        permission = permission_of(seen)
        key = self._keys.cache_key(seen)
        route.count(seen, permission, key, times)
        if seen.is_protected or seen.is_from_cache:
            return
        credentials = self._keys.credentials(seen.request_fields)
        if credentials and seen.status == _OK and permission.may_shared_store:
            disguise = disguise_of(path, media_type(seen.response_fields))
            route.disguise = smallest(route.disguise, disguise)
        if _is_version(seen):
            self._add_version(route, key, seen, permission, credentials)

    def merge(self, other: Evidence) -> None:
        """Take in what another worker saw; it must not be used any more."""
        self.since_s = min(self.since_s, other.since_s)
        self.responses += other.responses
        self.unexamined += other.unexamined
        self.dropped += other.dropped + self.routes.merge(other.routes)
        self._threshold = min(self._threshold, other._threshold)
        for digest, blocks in other.blocks.items():
            if len(self.blocks) < _MAX_BLOCKS:
                self.blocks[digest] = blocks
        self._sample_anew()

    def frames(self) -> Iterator[bytes]:
        """Write all of it down, some routes a frame: no step takes longer than a request may wait."""
        scalars = {name: getattr(self, name) for name in _SCALARS}
        yield pickle.dumps((scalars, self.routes.shape()))
        routes = list(self.routes.items())
        for start in range(0, len(routes), _ROUTES_A_FRAME):
            yield pickle.dumps(routes[start : start + _ROUTES_A_FRAME])

    @classmethod
    def from_frames(cls, frames: Iterable[bytes]) -> Self:
        """Read what `frames` has written; by the same program, so that `pickle` is safe."""
        head, *rest = frames
        scalars, shape = pickle.loads(head)  # noqa: S301 - written by `frames`, of a process of this service
        made = cls(b"not needed any more")
        for name, value in scalars.items():
            setattr(made, name, value)
        made.routes.restore(shape, (route for frame in rest for route in pickle.loads(frame)))  # noqa: S301 - written by `frames`, of a process of this service
        return made

    def _add_version(
        self, route: RouteEvidence, key: int, seen: Observation, permission: Permission, credentials: int
    ) -> None:
        known = route.keys.get(key)
        if known is None:
            if not self._makes_room(route, key):
                return
            known = route.keys[key] = KeyEvidence()
        known.answers += 1
        content = None if _is_empty_304(seen) else seen.content
        if content is None and seen.status == _OK and seen.method == "GET":
            route.unseen += 1
        if content is not None and content.blocks and len(self.blocks) < _MAX_BLOCKS:
            self.blocks[content.digest] = content.blocks
        known.add(
            Version(
                _OK if seen.status == NOT_MODIFIED else seen.status,
                0 if content is None else content.digest,
                validator_of(seen),
                credentials,
                seen.at_s,
                seen.at_s + max(permission.private_s, permission.shared_s),
                seen.at_s + permission.shared_s,
                seen.at_s,
                changes_cookies(seen),
            )
        )

    def _makes_room(self, route: RouteEvidence, key: int) -> bool:
        """Tell whether a new key is to be kept; drop the one whose place it takes."""
        if key < self._threshold and self._sampled >= self._max_sampled_keys:
            self._sample_anew(key)
        if key < self._threshold:
            self._sampled += 1
            return True
        above = [other for other in route.keys if other >= self._threshold]
        if len(route.keys) < self._keys_per_route:
            return True
        if above and key < max(above):
            del route.keys[max(above)]
            return True
        return False

    def _sample_anew(self, *more: int) -> None:
        """Halve the threshold until few enough keys are below it, and drop the others except for a few of each route."""
        routes = [route for _, route in self.routes.items()]
        keys = sorted([*more, *(key for route in routes for key in route.keys)])
        while len(keys) > self._max_sampled_keys and keys[self._max_sampled_keys] < self._threshold:
            self._threshold >>= 1
        self._sampled = sum(key < self._threshold for key in keys if key not in more)
        for route in routes:
            for key in sorted(route.keys)[self._keys_per_route :]:
                if key >= self._threshold:
                    del route.keys[key]


def _is_empty_304(seen: Observation) -> bool:
    """Whether an answer is a 304 without content; a recording may add the content that the 304 stands for."""
    return seen.status == NOT_MODIFIED and seen.content is not None and not seen.content.size


def _is_version(seen: Observation) -> bool:
    """Whether an answer tells which content a key has: a range does not, nor HEAD or a 304 without a tag."""
    if seen.status == _PARTIAL or seen.method not in ("GET", "HEAD"):
        return False
    if seen.method == "HEAD" or seen.status == NOT_MODIFIED:
        return bool(validator_of(seen) & 1) and seen.status in (_OK, NOT_MODIFIED)
    return True
