"""The store on SQLite, through SQLAlchemy Core. The only module that knows either.

Owns the tables and their file. Writers of one process take turns; other processes
(the `keys` commands) may write keys meanwhile, which WAL mode allows.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from grotto_control.core.store import Bounds
from grotto_control.model.errors import CapacityReached, PermissionDenied, QuotaExceeded
from grotto_control.model.limits import Limits
from grotto_control.model.records import (
    Isolation,
    KeyRecord,
    SandboxHandle,
    SandboxRecord,
    SessionRecord,
    SessionStatus,
)

_SCHEMA = sa.MetaData()

_KEYS = sa.Table(
    "api_keys",
    _SCHEMA,
    sa.Column("key_id", sa.String, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("tenant", sa.String, nullable=False),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("revoked_s", sa.Float),
)
_SESSIONS = sa.Table(
    "sessions",
    _SCHEMA,
    sa.Column("tenant", sa.String, primary_key=True),
    sa.Column("session_id", sa.String, primary_key=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("idempotency_key", sa.String),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("tenant", "idempotency_key"),
)
_SANDBOXES = sa.Table(
    "sandboxes",
    _SCHEMA,
    sa.Column("sandbox_id", sa.String, primary_key=True),
    sa.Column("token", sa.String, nullable=False),
    sa.Column("disk_bytes", sa.Integer, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("handle", sa.LargeBinary),
    sa.Column("session_id", sa.String),
    sa.Column("tenant", sa.String),
)
_PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000")


class _SessionBody(msgspec.Struct, frozen=True):
    """What of a session is only read back as a whole."""

    policy: str
    limits: Limits
    labels: dict[str, str]
    created_s: float
    expires_s: float
    idle_s: float
    request_digest: bytes
    sandbox_id: str | None
    isolation: Isolation | None
    python_version: str
    codecs: tuple[str, ...]
    status_note: str


class SqliteStore:
    """Implements `core.store.Store` on one database file; make it with `open_store`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()

    async def add_key(self, record: KeyRecord) -> None:
        async with self._writing() as connection:
            await connection.execute(_KEYS.insert().values(_columns(record)))

    async def find_key(self, key_id: str) -> KeyRecord | None:
        rows = await self._rows(_KEYS.select().where(_KEYS.c.key_id == key_id))
        return KeyRecord(**rows[0]._mapping) if rows else None

    async def keys(self) -> Sequence[KeyRecord]:
        rows = await self._rows(_KEYS.select().order_by(_KEYS.c.created_s))
        return [KeyRecord(**row._mapping) for row in rows]

    async def revoke_key(self, key_id: str, now_s: float) -> bool:
        revoked = sa.func.coalesce(_KEYS.c.revoked_s, now_s)
        statement = _KEYS.update().where(_KEYS.c.key_id == key_id).values(revoked_s=revoked)
        async with self._writing() as connection:
            return (await connection.execute(statement)).rowcount > 0

    async def reserve_session(self, record: SessionRecord, bounds: Bounds) -> SessionRecord | None:
        async with self._writing() as connection:
            existing = await _idempotent(connection, record)
            if existing is None:
                await _check_bounds(connection, record.tenant, bounds)
                await connection.execute(_SESSIONS.insert().values(_session_row(record)))
            return existing

    async def put_session(self, record: SessionRecord) -> None:
        async with self._writing() as connection:
            await connection.execute(_update_session(record))

    async def bind(self, session: SessionRecord, sandbox: SandboxRecord) -> None:
        async with self._writing() as connection:
            await connection.execute(_update_session(session))
            await connection.execute(_upsert_sandbox(sandbox))

    async def remove_session(self, tenant: str, session_id: str) -> None:
        async with self._writing() as connection:
            await connection.execute(_SESSIONS.delete().where(_is_session(tenant, session_id)))

    async def sessions(self) -> Sequence[SessionRecord]:
        return [_session(row) for row in await self._rows(_SESSIONS.select())]

    async def put_sandbox(self, record: SandboxRecord) -> None:
        async with self._writing() as connection:
            await connection.execute(_upsert_sandbox(record))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        async with self._writing() as connection:
            await connection.execute(
                _SANDBOXES.delete().where(_SANDBOXES.c.sandbox_id == sandbox_id)
            )

    async def sandboxes(self) -> Sequence[SandboxRecord]:
        return [_sandbox(row) for row in await self._rows(_SANDBOXES.select())]

    async def close(self) -> None:
        await self._engine.dispose()

    async def _rows(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        async with self._engine.connect() as connection:
            rows: Sequence[sa.Row[Any]] = (await connection.execute(statement)).all()
            return rows

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        async with self._turn, self._engine.connect() as connection:
            # The write lock first: what a transaction has read can then not change under it.
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()


async def open_store(path: Path) -> SqliteStore:
    """Returns the store in the file `path`, made with mode 0600 if it is not there."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    sa.event.listen(engine.sync_engine, "connect", _set_up)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        await connection.run_sync(_SCHEMA.create_all)
        await connection.commit()
    return SqliteStore(engine)


def _set_up(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where this module says so
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


async def _idempotent(connection: AsyncConnection, record: SessionRecord) -> SessionRecord | None:
    if record.idempotency_key is None:
        return None
    statement = _SESSIONS.select().where(
        _SESSIONS.c.tenant == record.tenant,
        _SESSIONS.c.idempotency_key == record.idempotency_key,
    )
    row = (await connection.execute(statement)).one_or_none()
    return _session(row) if row is not None else None


async def _check_bounds(connection: AsyncConnection, tenant: str, bounds: Bounds) -> None:
    statement = (
        sa.select(_SESSIONS.c.tenant, sa.func.count())
        .where(_SESSIONS.c.status != SessionStatus.LOST.value)
        .group_by(_SESSIONS.c.tenant)
    )
    counts: dict[str, int] = {row[0]: row[1] for row in await connection.execute(statement)}
    others = len(counts.keys() - {tenant})
    if bounds.tenants is not None and others >= bounds.tenants:
        raise PermissionDenied(
            "this server's backend serves one tenant at a time, and another tenant has sessions.",
            "run a server of your own, or one whose backend isolates tenants from each other.",
        )
    if counts.get(tenant, 0) >= bounds.tenant_sessions:
        raise QuotaExceeded(
            f"this tenant has {bounds.tenant_sessions} sessions, as many as it may.",
            "close one first.",
        )
    if sum(counts.values()) >= bounds.server_sessions:
        raise CapacityReached("this server has no room for another session.", "try again later.")


def _columns(record: KeyRecord) -> dict[str, Any]:
    return {column.name: getattr(record, column.name) for column in _KEYS.columns}


def _session_row(record: SessionRecord) -> dict[str, Any]:
    body = _SessionBody(**{name: getattr(record, name) for name in _SessionBody.__struct_fields__})
    return {
        "tenant": record.tenant,
        "session_id": record.session_id,
        "status": record.status.value,
        "idempotency_key": record.idempotency_key,
        "record": msgspec.json.encode(body),
    }


def _session(row: sa.Row[Any]) -> SessionRecord:
    body = msgspec.json.decode(row.record, type=_SessionBody)
    return SessionRecord(
        session_id=row.session_id,
        tenant=row.tenant,
        status=SessionStatus(row.status),
        idempotency_key=row.idempotency_key,
        **{name: getattr(body, name) for name in _SessionBody.__struct_fields__},
    )


def _is_session(tenant: str, session_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(_SESSIONS.c.tenant == tenant, _SESSIONS.c.session_id == session_id)


def _update_session(record: SessionRecord) -> sa.Update:
    where = _is_session(record.tenant, record.session_id)
    return _SESSIONS.update().where(where).values(_session_row(record))


def _upsert_sandbox(record: SandboxRecord) -> sa.Insert:
    values = {column.name: getattr(record, column.name) for column in _SANDBOXES.columns}
    values["handle"] = msgspec.json.encode(record.handle) if record.handle else None
    return insert(_SANDBOXES).values(values).on_conflict_do_update(set_=values)


def _sandbox(row: sa.Row[Any]) -> SandboxRecord:
    values = dict(row._mapping)
    if row.handle is not None:
        values["handle"] = msgspec.json.decode(row.handle, type=SandboxHandle)
    return SandboxRecord(**values)
