"""What the core asks of a store. One process writes sessions; keys may come from others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grotto_control.model.records import KeyRecord, SandboxRecord, SessionRecord


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a new session must fit into, checked in the transaction that reserves it."""

    tenant_sessions: int
    server_sessions: int
    tenants: int | None


class Store(Protocol):
    async def add_key(self, record: KeyRecord) -> None: ...

    async def find_key(self, key_id: str) -> KeyRecord | None: ...

    async def keys(self) -> Sequence[KeyRecord]: ...

    async def revoke_key(self, key_id: str, now_s: float) -> bool:
        """Returns False if there is no such key; a revoked key stays revoked."""
        ...

    async def reserve_session(self, record: SessionRecord, bounds: Bounds) -> SessionRecord | None:
        """Writes the record if it fits, in one transaction.

        Returns the record that already holds the same idempotency key of the tenant, if any
        (nothing is written then), else None. Raises QuotaExceeded, CapacityReached or
        PermissionDenied. Lost sessions hold no resources and count nowhere.
        """
        ...

    async def put_session(self, record: SessionRecord) -> None: ...

    async def bind(self, session: SessionRecord, sandbox: SandboxRecord) -> None:
        """Writes both in one transaction."""
        ...

    async def remove_session(self, tenant: str, session_id: str) -> None: ...

    async def sessions(self) -> Sequence[SessionRecord]:
        """Returns all of them; for the start of the server."""
        ...

    async def put_sandbox(self, record: SandboxRecord) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandboxes(self) -> Sequence[SandboxRecord]: ...

    async def close(self) -> None: ...
