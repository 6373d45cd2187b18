"""Who is calling: API key to tenant, remembered for a few seconds.

A warm lookup is synchronous, so that requests keep the order they arrived in; cold
lookups of one key take turns, so that only the first reads and all go on in order.
"""

import asyncio
import hmac
from collections.abc import Set
from dataclasses import dataclass, field

from grotto_control.core.clock import Clock
from grotto_control.core.keys import digest_of, key_id_of
from grotto_control.core.store import Store
from grotto_control.model.errors import Unauthenticated

_SCHEME = "Bearer "
_MAX_CACHED_KEYS = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    tenant: str
    key_id: str


@dataclass(frozen=True, slots=True)
class _Cached:
    identity: Identity
    checked_s: float


@dataclass(slots=True)
class _Turn:
    """Who waits for one key; gone when nobody does."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


def refusal() -> Unauthenticated:
    """Returns the one answer to every bad key: it tells nothing about why."""
    return Unauthenticated(
        "the API key is missing or not valid.",
        "pass a key made by `grotto keys create`, as metadata `authorization: Bearer KEY`.",
    )


class Authenticator:
    """Checks `authorization` headers. Positive results live at most `cache_s` seconds."""

    def __init__(self, store: Store, clock: Clock, cache_s: float = 5.0) -> None:
        self._store = store
        self._clock = clock
        self._cache_s = cache_s
        self._cache: dict[bytes, _Cached] = {}
        self._turns: dict[bytes, _Turn] = {}

    def cached(self, authorization: str) -> Identity | None:
        """Returns who a key checked lately belongs to, without waiting."""
        if not authorization.startswith(_SCHEME):
            return None
        digest = digest_of(authorization.removeprefix(_SCHEME))
        # While others wait for this key, whoever comes now must not overtake them.
        return None if digest in self._turns else self._fresh(digest)

    async def authenticate(self, authorization: str) -> Identity:
        """Returns who the key belongs to; raises Unauthenticated, always the same one."""
        key = authorization.removeprefix(_SCHEME)
        if not authorization.startswith(_SCHEME) or key_id_of(key) is None:
            raise refusal()
        digest = digest_of(key)
        turn = self._turns.setdefault(digest, _Turn())
        turn.callers += 1
        try:
            async with turn.lock:  # first come, first served
                identity = self._fresh(digest) or await self._read(key, digest)
        finally:
            turn.callers -= 1
            if not turn.callers:
                del self._turns[digest]
        if identity is None:
            raise refusal()
        return identity

    async def recheck(self) -> Set[str]:
        """Checks every remembered key again; returns the ids of those no longer valid."""
        revoked = set()
        for digest, entry in list(self._cache.items()):
            record = await self._store.find_key(entry.identity.key_id)
            if record is None or record.revoked_s is not None:
                self._cache.pop(digest, None)
                revoked.add(entry.identity.key_id)
            else:
                self._cache[digest] = _Cached(entry.identity, self._clock())
        return revoked

    def _fresh(self, digest: bytes) -> Identity | None:
        entry = self._cache.get(digest)
        if entry is None or self._clock() - entry.checked_s > self._cache_s:
            return None
        return entry.identity

    async def _read(self, key: str, digest: bytes) -> Identity | None:
        record = await self._store.find_key(key_id_of(key) or "")
        stored = record.digest if record else b""
        if not hmac.compare_digest(stored, digest) or record is None or record.revoked_s:
            return None
        if len(self._cache) >= _MAX_CACHED_KEYS:
            self._cache.clear()
        identity = Identity(record.tenant, record.key_id)
        self._cache[digest] = _Cached(identity, self._clock())
        return identity
