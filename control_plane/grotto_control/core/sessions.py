"""Sessions of tenants: created, found by (tenant, id), lost, closed.

There is no lookup without a tenant here. Another tenant's session is answered
exactly as one that does not exist.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from grotto_control.core import requests
from grotto_control.core.clock import Clock, is_session_id
from grotto_control.core.creation import Creator
from grotto_control.core.limits import LimitRules, resolve
from grotto_control.core.runtime import Runtime
from grotto_control.core.sandboxes import Sandbox, Sandboxes
from grotto_control.core.store import Bounds, Store
from grotto_control.model.errors import (
    InvalidArgument,
    NotFound,
    SandboxUnreachable,
    SessionLost,
    Unavailable,
)
from grotto_control.model.records import SandboxRecord, SessionRecord, SessionStatus
from grotto_proto.v1 import sessions_pb2

DEATH_NOTICE_S = 2.0
"""How long a broken connection waits for the news that its sandbox is dead."""


@dataclass(frozen=True, slots=True)
class SessionRules:
    bounds: Bounds
    limits: LimitRules = field(default_factory=LimitRules)
    images: tuple[str, ...] = ()
    """What clients may ask for by name, the default first."""
    ttl_s: float = 24 * 3600.0
    idle_s: float = 3600.0
    max_ttl_s: float = 30 * 24 * 3600.0


class LiveSession:
    """A session of this server and what is running on it."""

    def __init__(self, record: SessionRecord, sandbox: Sandbox | None, now_s: float) -> None:
        self.record = record
        self.sandbox = sandbox
        self.used_s = now_s
        self.calls = 0

    @property
    def runtime(self) -> Runtime:
        """Returns the daemon's client; raises SessionLost when there is no daemon any more."""
        if self.sandbox is None or self.record.status is not SessionStatus.READY:
            raise _lost(self.record)
        return self.sandbox.runtime


class Sessions:
    """Every session of this server."""

    def __init__(
        self,
        store: Store,
        sandboxes: Sandboxes,
        creator: Creator,
        rules: SessionRules,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._creator = creator
        self._rules = rules
        self._clock = clock
        self._new_id = new_id
        self._live: dict[tuple[str, str], LiveSession] = {}
        self._creations: dict[tuple[str, str], asyncio.Task[LiveSession]] = {}
        self._draining = False
        self._log = structlog.get_logger()
        sandboxes.on_death(self._sandbox_died)

    def all(self) -> Sequence[LiveSession]:
        """Returns those of every tenant, for the reconciler."""
        return tuple(self._live.values())

    def drain(self) -> None:
        """Refuses new sessions from now on."""
        self._draining = True

    async def restore(self) -> None:
        """Takes over what an earlier process left: adopts, or says that a session is lost."""
        left = {record.sandbox_id: record for record in await self._store.sandboxes()}
        restored = []
        for record in await self._store.sessions():
            if record.status is SessionStatus.CREATING:
                await self._store.remove_session(record.tenant, record.session_id)
                continue
            session = LiveSession(record, None, self._clock())
            self._live[record.tenant, record.session_id] = session
            sandbox = left.get(record.sandbox_id or "")
            if record.status is SessionStatus.READY and sandbox and sandbox.session_id:
                del left[sandbox.sandbox_id]
                restored.append(self._adopt(session, sandbox))
            elif record.status is SessionStatus.READY:
                restored.append(self._lose(session, "its sandbox is gone"))
        await asyncio.gather(*restored, *map(self._sandboxes.remove, left.values()))

    def get(self, tenant: str, session_id: str) -> LiveSession:
        """Returns the tenant's session; raises NotFound for any other."""
        session = self._live.get((tenant, session_id)) if is_session_id(session_id) else None
        if session is None or session.record.status is SessionStatus.CREATING:
            raise _missing()
        return session

    def of_tenant(self, tenant: str) -> list[SessionRecord]:
        return [
            session.record
            for (owner, _), session in self._live.items()
            if owner == tenant and session.record.status is not SessionStatus.CREATING
        ]

    @asynccontextmanager
    async def use(self, tenant: str, session_id: str) -> AsyncIterator[LiveSession]:
        """Holds a session busy during a call on its daemon.

        Nothing is awaited before the body, so calls are forwarded in the order they came.
        Raises NotFound, SessionLost, and Unavailable when a living daemon does not answer.
        """
        session = self.get(tenant, session_id)
        session.calls += 1
        session.used_s = self._clock()
        try:
            yield session
        except SandboxUnreachable as error:
            raise await self._explained(session) from error
        finally:
            session.calls -= 1
            session.used_s = self._clock()

    async def create(
        self, tenant: str, request: sessions_pb2.CreateSessionRequest
    ) -> SessionRecord:
        """Returns a ready session; the same idempotency key and request give the same one.

        Raises InvalidArgument, VersionMismatch, QuotaExceeded, CapacityReached,
        PermissionDenied or Unavailable; nothing is left of the session then.
        """
        if self._draining:
            raise Unavailable("the server is shutting down.", "try again in a moment.")
        record = self._planned(tenant, request)
        key = (tenant, record.idempotency_key or record.session_id)
        creation = self._creations.get(key)
        if creation is None:
            creation = asyncio.create_task(self._create(record, request))
            self._creations[key] = creation
            creation.add_done_callback(lambda _: self._creations.pop(key))
        try:
            session = await asyncio.shield(creation)
        except asyncio.CancelledError:
            if record.idempotency_key is None:
                creation.cancel()
            raise
        return _same(record, session.record)

    async def close(self, tenant: str, session_id: str) -> None:
        """Ends a session and its sandbox."""
        session = self.get(tenant, session_id)
        self._live.pop((tenant, session_id))
        await self._store.remove_session(tenant, session_id)
        if session.sandbox is not None:
            await self._sandboxes.end(session.sandbox)

    async def lose(self, tenant: str, session_id: str, why: str) -> None:
        """Marks a session lost and ends its sandbox."""
        session = self.get(tenant, session_id)
        sandbox = session.sandbox
        await self._lose(session, why)
        if sandbox is not None:
            await self._sandboxes.end(sandbox)

    async def end_all(self) -> None:
        """Ends every session, for a server whose sandboxes must not outlive it."""
        creations = list(self._creations.values())
        for creation in creations:
            creation.cancel()
        await asyncio.gather(*creations, return_exceptions=True)
        await asyncio.gather(
            *(self.close(*key) for key in list(self._live)), return_exceptions=True
        )

    def _planned(self, tenant: str, request: sessions_pb2.CreateSessionRequest) -> SessionRecord:
        if request.HasField("client"):
            requests.check_client(request.client)
        requests.check_env(request.env)
        requests.check_labels(request.labels)
        rules, now_s = self._rules, self._clock()
        ttl_s = requests.checked_lifetime_s("ttl_s", request.ttl_s, rules.ttl_s, rules.max_ttl_s)
        return SessionRecord(
            session_id=self._new_id(),
            tenant=tenant,
            status=SessionStatus.CREATING,
            image=requests.checked_image(request.image, rules.images),
            policy=requests.checked_policy(request.policy),
            limits=resolve(request.limits, rules.limits),
            labels=dict(request.labels),
            created_s=now_s,
            expires_s=now_s + ttl_s,
            idle_s=requests.checked_lifetime_s(
                "idle_s", request.idle_s, rules.idle_s, rules.max_ttl_s
            ),
            idempotency_key=requests.checked_idempotency_key(request.idempotency_key),
            request_digest=requests.digest_of(request),
        )

    async def _create(
        self, record: SessionRecord, request: sessions_pb2.CreateSessionRequest
    ) -> LiveSession:
        key = (record.tenant, record.session_id)
        session = LiveSession(record, None, self._clock())
        try:
            existing = await self._store.reserve_session(record, self._rules.bounds)
            if existing is not None:
                return self.get(existing.tenant, existing.session_id)
            self._live[key] = session
            session.record, session.sandbox = await self._creator.create(record, request)
        except BaseException:
            self._live.pop(key, None)
            await asyncio.shield(self._store.remove_session(*key))
            raise
        session.used_s = self._clock()
        return session

    async def _adopt(self, session: LiveSession, record: SandboxRecord) -> None:
        try:
            sandbox = await self._sandboxes.adopt(record)
        except SandboxUnreachable:
            await self._lose(session, "its sandbox did not survive the restart of the server")
            await self._sandboxes.remove(record)
            return
        if sandbox.hello.session_id != session.record.session_id:
            await self._lose(session, "its sandbox answered for another session")
            await self._sandboxes.end(sandbox)
            return
        session.sandbox = sandbox
        self._log.info("session adopted", session=session.record.session_id)

    async def _explained(self, session: LiveSession) -> NotFound | SessionLost | Unavailable:
        """Returns why the daemon of a session did not answer."""
        if (session.record.tenant, session.record.session_id) not in self._live:
            return _missing()  # it was closed during the call
        sandbox = session.sandbox
        if sandbox is None or await sandbox.has_died(DEATH_NOTICE_S):
            note = f"its sandbox {sandbox.end_note}" if sandbox else session.record.status_note
            return _lost(dataclasses.replace(session.record, status_note=note))
        return Unavailable("the session's sandbox does not answer.", "try again in a moment.")

    async def _sandbox_died(self, sandbox: Sandbox) -> None:
        for session in self.all():
            if session.sandbox is sandbox and session.record.status is SessionStatus.READY:
                await self._lose(session, f"its sandbox {sandbox.end_note}")

    async def _lose(self, session: LiveSession, why: str) -> None:
        session.record = dataclasses.replace(
            session.record, status=SessionStatus.LOST, status_note=why, sandbox_id=None
        )
        session.sandbox = None
        await self._store.put_session(session.record)
        self._log.warning("session lost", session=session.record.session_id, why=why)


def _missing() -> NotFound:
    return NotFound(
        "there is no such session.",
        "it may have been closed, or have expired; `client.sessions()` lists yours.",
    )


def _lost(record: SessionRecord) -> SessionLost:
    why = record.status_note or "its sandbox is gone"
    return SessionLost(
        f"session {record.session_id} is lost: {why}.",
        "close it and create a new one; what it held is gone.",
    )


def _same(asked: SessionRecord, found: SessionRecord) -> SessionRecord:
    """Raises InvalidArgument if an idempotency key was used for another request."""
    if asked.request_digest != found.request_digest:
        raise InvalidArgument(
            "this idempotency_key was used for a session with other settings.",
            "use a new key for a new session.",
        )
    return found
