"""The store: what goes in comes out, and a reservation is one transaction."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from grotto_control.core.clock import new_session_id
from grotto_control.core.keys import new_key, record_for
from grotto_control.core.store import Bounds
from grotto_control.model.errors import CapacityReached, PermissionDenied, QuotaExceeded
from grotto_control.model.limits import Limits
from grotto_control.model.records import (
    Isolation,
    SandboxHandle,
    SandboxRecord,
    SessionRecord,
    SessionStatus,
)
from grotto_control.store import SqliteStore, open_store

ROOMY = Bounds(tenant_sessions=100, server_sessions=100, tenants=None)


def session(tenant: str = "ada", key: str | None = None) -> SessionRecord:
    return SessionRecord(
        session_id=new_session_id(),
        tenant=tenant,
        status=SessionStatus.CREATING,
        image="",
        policy="standard",
        limits=Limits(),
        labels={"a": "b"},
        created_s=1.0,
        expires_s=2.0,
        idle_s=3.0,
        idempotency_key=key,
        request_digest=b"d" * 32,
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "grotto.db")
    yield opened
    await opened.close()


async def test_records_come_back_as_they_went_in(store: SqliteStore, tmp_path: Path) -> None:
    record = session(key="k")
    assert await store.reserve_session(record, ROOMY) is None
    handle = SandboxHandle("b1", 4711, 12345, "/run/b1", 1_610_612_736)
    sandbox = SandboxRecord("b1", "token", 1024, 1.0, handle, record.session_id, "ada")
    ready = replace(
        record,
        status=SessionStatus.READY,
        sandbox_id="b1",
        isolation=Isolation("local", "full", ("seccomp",), (), {"kernel": "6.1"}),
        python_version="3.11.7",
        codecs=("scalars",),
    )
    await store.bind(ready, sandbox)
    await store.put_sandbox(SandboxRecord("b2", "token", 1024, 1.0))
    other = await open_store(tmp_path / "grotto.db")
    assert await other.sessions() == [ready]
    assert await other.sandboxes() == [sandbox, SandboxRecord("b2", "token", 1024, 1.0)]
    await other.remove_session("bob", record.session_id)
    assert await other.sessions() == [ready]  # another tenant's removal does nothing
    await other.remove_session("ada", record.session_id)
    await other.remove_sandbox("b1")
    assert await other.sessions() == []
    await other.close()


async def test_the_same_idempotency_key_gives_the_first_record(store: SqliteStore) -> None:
    first = session(key="k")
    assert await store.reserve_session(first, ROOMY) is None
    assert await store.reserve_session(session(key="k"), ROOMY) == first
    assert await store.reserve_session(session(tenant="bob", key="k"), ROOMY) is None
    assert await store.reserve_session(session(), ROOMY) is None
    assert len(await store.sessions()) == 3


async def test_concurrent_reservations_do_not_pass_the_quota(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Two servers' worth of writers on one file: the transaction holds, not a lock of ours."""
    other = await open_store(tmp_path / "grotto.db")
    bounds = replace(ROOMY, tenant_sessions=5)
    tries = [used.reserve_session(session(), bounds) for _ in range(10) for used in (store, other)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(None) == 5
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 15
    assert len(await store.sessions()) == 5
    await other.close()


async def test_bounds_of_server_and_tenants(store: SqliteStore) -> None:
    await store.reserve_session(session("ada"), ROOMY)
    with pytest.raises(CapacityReached):
        await store.reserve_session(session("bob"), replace(ROOMY, server_sessions=1))
    with pytest.raises(PermissionDenied):
        await store.reserve_session(session("bob"), replace(ROOMY, tenants=1))
    assert await store.reserve_session(session("ada"), replace(ROOMY, tenants=1)) is None


async def test_a_lost_session_counts_nowhere(store: SqliteStore) -> None:
    record = session("ada")
    await store.reserve_session(record, ROOMY)
    await store.put_session(replace(record, status=SessionStatus.LOST))
    tight = Bounds(tenant_sessions=1, server_sessions=1, tenants=1)
    assert await store.reserve_session(session("bob"), tight) is None


async def test_revocation_is_final(store: SqliteStore) -> None:
    record = record_for(new_key(), "ada", "", 1.0)
    await store.add_key(record)
    assert await store.revoke_key(record.key_id, 5.0)
    assert await store.revoke_key(record.key_id, 9.0)
    assert not await store.revoke_key("00000000", 5.0)
    assert await store.keys() == [replace(record, revoked_s=5.0)]
