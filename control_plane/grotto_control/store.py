"""The store on SQLite, through SQLAlchemy Core. The only module that knows either.

Owns the tables and their file. Writers of one process take turns; other processes
(the `keys` commands) may write keys meanwhile, which WAL mode allows.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

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

_T = TypeVar("_T")
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

    image: str
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
    """Implements `core.store.Store` on one database file; make it with `open_store`.

    Every call is one transaction, run whole on a thread of the store's own: a call that is
    cancelled meanwhile still takes place.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "grotto-store")
        self._closed = False

    async def add_key(self, record: KeyRecord) -> None:
        await self._write(_KEYS.insert().values(_columns(record)))

    async def find_key(self, key_id: str) -> KeyRecord | None:
        rows = await self._rows(_KEYS.select().where(_KEYS.c.key_id == key_id))
        return KeyRecord(**rows[0]._mapping) if rows else None

    async def keys(self) -> Sequence[KeyRecord]:
        rows = await self._rows(_KEYS.select().order_by(_KEYS.c.created_s))
        return [KeyRecord(**row._mapping) for row in rows]

    async def revoke_key(self, key_id: str, now_s: float) -> bool:
        revoked = sa.func.coalesce(_KEYS.c.revoked_s, now_s)
        statement = _KEYS.update().where(_KEYS.c.key_id == key_id).values(revoked_s=revoked)
        return await self._write(statement) > 0

    async def reserve_session(self, record: SessionRecord, bounds: Bounds) -> SessionRecord | None:
        def work(connection: sa.Connection) -> SessionRecord | None:
            existing = _idempotent(connection, record)
            if existing is None:
                _check_bounds(connection, record.tenant, bounds)
                connection.execute(_SESSIONS.insert().values(_session_row(record)))
            return existing

        return await self._transact(work)

    async def put_session(self, record: SessionRecord) -> None:
        await self._write(_update_session(record))

    async def bind(self, session: SessionRecord, sandbox: SandboxRecord) -> None:
        await self._write(_update_session(session), _upsert_sandbox(sandbox))

    async def remove_session(self, tenant: str, session_id: str) -> None:
        await self._write(_SESSIONS.delete().where(_is_session(tenant, session_id)))

    async def sessions(self) -> Sequence[SessionRecord]:
        return [_session(row) for row in await self._rows(_SESSIONS.select())]

    async def put_sandbox(self, record: SandboxRecord) -> None:
        await self._write(_upsert_sandbox(record))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._write(_SANDBOXES.delete().where(_SANDBOXES.c.sandbox_id == sandbox_id))

    async def sandboxes(self) -> Sequence[SandboxRecord]:
        return [_sandbox(row) for row in await self._rows(_SANDBOXES.select())]

    async def close(self) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            await self._on_thread(self._engine.dispose)
            self._thread.shutdown()

    async def _rows(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        def work() -> Sequence[sa.Row[Any]]:
            with self._engine.connect() as connection:
                return connection.execute(statement).all()

        return await self._on_thread(work)

    async def _write(self, *statements: sa.Executable) -> int:
        """Executes statements in one transaction; returns the rows the last one changed."""

        def work(connection: sa.Connection) -> int:
            return [connection.execute(statement).rowcount for statement in statements][-1]

        return await self._transact(work)

    async def _transact(self, work: Callable[[sa.Connection], _T]) -> _T:
        def whole() -> _T:
            with self._engine.connect() as connection:
                # The write lock first: what a transaction has read cannot change under it.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    result = work(connection)
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
                return result

        return await self._on_thread(whole)

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def open_store(path: Path) -> SqliteStore:
    """Returns the store in the file `path`, made with mode 0600 if it is not there."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = sa.create_engine(
        f"sqlite:///{path}",
        poolclass=sa.StaticPool,
        connect_args={"check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _set_up)
    store = SqliteStore(engine)
    await store._transact(_SCHEMA.create_all)
    return store


def _set_up(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where this module says so
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _idempotent(connection: sa.Connection, record: SessionRecord) -> SessionRecord | None:
    if record.idempotency_key is None:
        return None
    statement = _SESSIONS.select().where(
        _SESSIONS.c.tenant == record.tenant,
        _SESSIONS.c.idempotency_key == record.idempotency_key,
    )
    row = connection.execute(statement).one_or_none()
    return _session(row) if row is not None else None


def _check_bounds(connection: sa.Connection, tenant: str, bounds: Bounds) -> None:
    statement = (
        sa.select(_SESSIONS.c.tenant, sa.func.count())
        .where(_SESSIONS.c.status != SessionStatus.LOST.value)
        .group_by(_SESSIONS.c.tenant)
    )
    counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(statement)}
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
