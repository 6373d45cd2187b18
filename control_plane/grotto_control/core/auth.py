"""Who is calling: API key to tenant, remembered for a few seconds.

A warm lookup is synchronous, so that requests keep the order they arrived in; cold
lookups of one key share one read, and its waiters resume in order.
"""

import asyncio
import hmac
from collections.abc import Set
from dataclasses import dataclass

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
        self._reads: dict[bytes, asyncio.Task[Identity | None]] = {}

    def cached(self, authorization: str) -> Identity | None:
        """Returns who a key checked lately belongs to, without waiting."""
        if not authorization.startswith(_SCHEME):
            return None
        entry = self._cache.get(digest_of(authorization.removeprefix(_SCHEME)))
        if entry is None or self._clock() - entry.checked_s > self._cache_s:
            return None
        return entry.identity

    async def authenticate(self, authorization: str) -> Identity:
        """Returns who the key belongs to; raises Unauthenticated, always the same one."""
        key = authorization.removeprefix(_SCHEME)
        if not authorization.startswith(_SCHEME) or key_id_of(key) is None:
            raise refusal()
        digest = digest_of(key)
        read = self._reads.get(digest)
        if read is None:
            read = asyncio.create_task(self._read(key, digest))
            self._reads[digest] = read
        identity = await asyncio.shield(read)
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

    async def _read(self, key: str, digest: bytes) -> Identity | None:
        try:
            record = await self._store.find_key(key_id_of(key) or "")
            stored = record.digest if record else b""
            if not hmac.compare_digest(stored, digest) or record is None or record.revoked_s:
                return None
            if len(self._cache) >= _MAX_CACHED_KEYS:
                self._cache.clear()
            identity = Identity(record.tenant, record.key_id)
            self._cache[digest] = _Cached(identity, self._clock())
            return identity
        finally:
            del self._reads[digest]
