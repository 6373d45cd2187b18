"""The sandboxes of this server: started, adopted, watched until they die, ended.

Owns the record of each and the client of its daemon. Knows nothing of tenants' rights.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import structlog

from grotto_control.core.backend import Backend, Kind, SandboxSpec
from grotto_control.core.clock import Clock
from grotto_control.core.runtime import Runtime, RuntimeConnector
from grotto_control.core.store import Store
from grotto_control.model.errors import BackendFailure, GrottoError, SandboxUnreachable
from grotto_control.model.limits import Limits
from grotto_control.model.records import SandboxHandle, SandboxHello, SandboxRecord

HANDSHAKE_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 1.0


class Sandbox:
    """A started sandbox whose daemon has answered the handshake."""

    def __init__(
        self,
        record: SandboxRecord,
        handle: SandboxHandle,
        runtime: Runtime,
        hello: SandboxHello,
        answered_s: float,
    ) -> None:
        self.record = record
        self.handle = handle
        self.runtime = runtime
        self.hello = hello
        self.answered_s = answered_s
        self.unanswered_s: float | None = None
        self.end_note: str | None = None
        self._died = asyncio.Event()

    def mark_dead(self, note: str) -> None:
        self.end_note = note
        self._died.set()

    async def has_died(self, within_s: float) -> bool:
        """Returns whether it is dead, or is found dead within so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._died.wait(), within_s)
        return self._died.is_set()


DeathListener = Callable[[Sandbox], Awaitable[None]]


class Sandboxes:
    """Every sandbox this process holds, by id."""

    def __init__(
        self,
        backend: Backend,
        connect: RuntimeConnector,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        new_token: Callable[[], str],
    ) -> None:
        self._backend = backend
        self._connect = connect
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._new_token = new_token
        self._live: dict[str, Sandbox] = {}
        self._known: set[str] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._listeners: list[DeathListener] = []
        self._log = structlog.get_logger()

    def on_death(self, listener: DeathListener) -> None:
        """Has `listener` called once for each sandbox that dies unasked."""
        self._listeners.append(listener)

    def all(self) -> Iterable[Sandbox]:
        return tuple(self._live.values())

    def get(self, sandbox_id: str) -> Sandbox | None:
        return self._live.get(sandbox_id)

    def known(self) -> frozenset[str]:
        """Returns the ids of all that are live, being started or being ended."""
        return frozenset(self._known)

    async def start(self, kind: Kind) -> Sandbox:
        """Returns a new sandbox, not bound yet. Raises BackendFailure and leaves nothing then."""
        record = SandboxRecord(self._new_id(), self._new_token(), kind.disk_bytes, self._clock())
        self._known.add(record.sandbox_id)
        try:
            # Recorded before it exists: whatever survives a crash here is found again.
            await self._store.put_sandbox(record)
            handle = await self._backend.start(SandboxSpec(record.sandbox_id, record.token, kind))
            record = dataclasses.replace(record, handle=handle)
            sandbox = await self._opened_or_destroyed(record, handle)
            try:
                await self._store.put_sandbox(record)
            except BaseException:
                await asyncio.shield(self._abandon(sandbox))
                raise
            return self._watched(sandbox)
        except BaseException as error:
            await asyncio.shield(self._forget(record.sandbox_id))
            if isinstance(error, SandboxUnreachable | GrottoError):
                raise BackendFailure("a new sandbox did not answer the handshake.") from error
            raise

    async def adopt(self, record: SandboxRecord) -> Sandbox:
        """Returns a sandbox that an earlier process started; raises SandboxUnreachable."""
        if record.handle is None:
            raise SandboxUnreachable("it had not been started")
        self._known.add(record.sandbox_id)
        try:
            return self._watched(await self._opened(record, record.handle))
        except GrottoError as error:
            raise SandboxUnreachable(error.message) from error

    async def apply(self, sandbox: Sandbox, limits: Limits) -> None:
        """Holds a sandbox to a session's limits; raises BackendFailure."""
        await self._backend.apply(sandbox.handle, limits, sandbox.record.disk_bytes)

    async def remove(self, record: SandboxRecord) -> None:
        """Ends what an earlier process left of a sandbox."""
        if record.handle is not None:
            await self._destroy(record.handle)
        await self._forget(record.sandbox_id)

    async def end(self, sandbox: Sandbox) -> None:
        """Ends a sandbox and everything it left; again is no error.

        Goes on to the end even if the caller is cancelled.
        """
        if self._live.pop(sandbox.record.sandbox_id, None) is None:
            return
        watch = self._watches.pop(sandbox.record.sandbox_id)
        if watch is not asyncio.current_task():
            watch.cancel()
        task = asyncio.create_task(self._end(sandbox))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        await asyncio.shield(task)

    async def ping(self, sandbox: Sandbox) -> None:
        """Tells a daemon that it is wanted, and notes whether it answered."""
        try:
            await sandbox.runtime.handshake(HANDSHAKE_TIMEOUT_S)
        except (SandboxUnreachable, GrottoError):
            sandbox.unanswered_s = sandbox.unanswered_s or self._clock()
        else:
            sandbox.answered_s = self._clock()
            sandbox.unanswered_s = None

    async def release(self) -> None:
        """Lets go of every sandbox without ending it, once those being ended have ended."""
        await asyncio.gather(*self._endings, return_exceptions=True)
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        await asyncio.gather(*(sandbox.runtime.close() for sandbox in self._live.values()))

    async def _end(self, sandbox: Sandbox) -> None:
        if sandbox.end_note is None:
            await sandbox.runtime.shutdown(SHUTDOWN_TIMEOUT_S)
            sandbox.mark_dead("was ended")
        await sandbox.runtime.close()
        await self._destroy(sandbox.handle)
        await self._forget(sandbox.record.sandbox_id)

    async def _abandon(self, sandbox: Sandbox) -> None:
        await sandbox.runtime.close()
        await self._destroy(sandbox.handle)

    async def _destroy(self, handle: SandboxHandle) -> None:
        """What cannot be removed now is forgotten here, and swept as a stray one later."""
        try:
            await self._backend.destroy(handle)
        except BackendFailure as error:
            self._log.error("sandbox not removed", sandbox=handle.sandbox_id, error=error.message)

    async def _opened(self, record: SandboxRecord, handle: SandboxHandle) -> Sandbox:
        runtime = self._connect(handle, record.token)
        try:
            hello = await runtime.handshake(HANDSHAKE_TIMEOUT_S)
        except BaseException:
            await asyncio.shield(runtime.close())
            raise
        return Sandbox(record, handle, runtime, hello, self._clock())

    async def _opened_or_destroyed(self, record: SandboxRecord, handle: SandboxHandle) -> Sandbox:
        try:
            return await self._opened(record, handle)
        except BaseException:
            await asyncio.shield(self._destroy(handle))
            raise

    def _watched(self, sandbox: Sandbox) -> Sandbox:
        sandbox_id = sandbox.record.sandbox_id
        self._live[sandbox_id] = sandbox
        self._watches[sandbox_id] = asyncio.create_task(self._watch(sandbox))
        return sandbox

    async def _watch(self, sandbox: Sandbox) -> None:
        note = await self._backend.wait(sandbox.handle)
        sandbox.mark_dead(note)
        self._log.warning("sandbox died", sandbox=sandbox.record.sandbox_id, note=note)
        for listener in self._listeners:
            await listener(sandbox)
        await self.end(sandbox)

    async def _forget(self, sandbox_id: str) -> None:
        await self._store.remove_sandbox(sandbox_id)
        self._known.discard(sandbox_id)
