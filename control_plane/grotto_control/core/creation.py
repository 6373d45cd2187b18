"""How a reserved session gets its sandbox: a warm one or a new one, then one Bind."""

import asyncio
import dataclasses

from grotto_control.core.backend import Kind
from grotto_control.core.clock import Clock
from grotto_control.core.metrics import Metrics
from grotto_control.core.pool import Pool
from grotto_control.core.sandboxes import Sandbox, Sandboxes
from grotto_control.core.slots import StartSlots
from grotto_control.core.store import Store
from grotto_control.model.errors import (
    BackendFailure,
    GrottoError,
    SandboxUnreachable,
    Unavailable,
)
from grotto_control.model.limits import Limits
from grotto_control.model.records import SessionRecord, SessionStatus
from grotto_proto.v1 import runtime_pb2, sessions_pb2

SLOT_PATIENCE_S = 60.0
"""How long a session waits for its start to begin, in a burst."""


class Creator:
    """Turns a reserved session into a ready one."""

    def __init__(
        self,
        store: Store,
        sandboxes: Sandboxes,
        slots: StartSlots,
        pool: Pool,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._slots = slots
        self._pool = pool
        self._metrics = metrics
        self._clock = clock

    async def create(
        self, record: SessionRecord, request: sessions_pb2.CreateSessionRequest
    ) -> tuple[SessionRecord, Sandbox]:
        """Returns the ready session's record and sandbox; on an error no sandbox is left.

        Raises Unavailable when no sandbox could be had, or what the daemon's Bind raised.
        """
        started_s = self._clock()
        bind = _bind_request(record, request)
        kind = Kind(record.image, record.limits.disk_bytes)
        warm = await self._pool.take(kind)
        if warm is not None:
            try:
                ready = await self._bound(record, bind, warm)
            except SandboxUnreachable:
                warm = None
                ready = await self._cold(kind, record, bind)
        else:
            ready = await self._cold(kind, record, bind)
        self._metrics.bound(self._clock() - started_s, warm=warm is not None)
        return ready

    async def _cold(
        self, kind: Kind, record: SessionRecord, bind: runtime_pb2.BindRequest
    ) -> tuple[SessionRecord, Sandbox]:
        try:
            async with self._slots.held(awaited=True, patience_s=SLOT_PATIENCE_S):
                sandbox = await self._sandboxes.start(kind)
            return await self._bound(record, bind, sandbox)
        except TimeoutError as error:
            raise Unavailable(
                "no sandbox could be started: too many others are being started.",
                "try again in a moment.",
            ) from error
        except BackendFailure as error:
            raise Unavailable(
                f"no sandbox could be started: {error.message}", error.hint
            ) from error
        except SandboxUnreachable as error:
            raise Unavailable("a new sandbox stopped answering.", "try again.") from error

    async def _bound(
        self, record: SessionRecord, bind: runtime_pb2.BindRequest, sandbox: Sandbox
    ) -> tuple[SessionRecord, Sandbox]:
        try:
            await self._sandboxes.apply(sandbox, record.limits)
            isolation = await sandbox.runtime.bind(bind)
            ready = dataclasses.replace(
                record,
                status=SessionStatus.READY,
                sandbox_id=sandbox.record.sandbox_id,
                isolation=isolation,
                python_version=sandbox.hello.python_version,
                codecs=sandbox.hello.codecs,
            )
            sandbox.record = dataclasses.replace(
                sandbox.record, session_id=record.session_id, tenant=record.tenant
            )
            await self._store.bind(ready, sandbox.record)
        except BaseException as error:
            await asyncio.shield(self._sandboxes.end(sandbox))
            if isinstance(error, GrottoError | BackendFailure):
                raise _as_ours(error) from error
            raise
        if sandbox.end_note is not None:
            raise SandboxUnreachable("it died while it was bound")
        return ready, sandbox


def _as_ours(error: GrottoError | BackendFailure) -> Unavailable:
    """A daemon that refuses checked settings has failed: that is no fault of the client's."""
    return Unavailable(f"the sandbox could not be set up: {error.message}", error.hint)


def _bind_request(
    record: SessionRecord, request: sessions_pb2.CreateSessionRequest
) -> runtime_pb2.BindRequest:
    return runtime_pb2.BindRequest(
        session_id=record.session_id,
        policy=record.policy,
        limits=limits_message(record.limits),
        env=request.env,
        recovery=request.recovery or sessions_pb2.RECOVERY_AUTO,
    )


def limits_message(limits: Limits) -> sessions_pb2.Limits:
    return sessions_pb2.Limits(**dataclasses.asdict(limits))
