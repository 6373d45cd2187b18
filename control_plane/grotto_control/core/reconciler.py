"""Carries out what the planner says, every second or so. Decides nothing itself."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from grotto_control.core.admission import Admission
from grotto_control.core.auth import Authenticator
from grotto_control.core.backend import Backend, Found, Kind
from grotto_control.core.clock import Clock
from grotto_control.core.metrics import Metrics
from grotto_control.core.plan import (
    Action,
    Destroy,
    Expire,
    Lose,
    Ping,
    PlanRules,
    SandboxView,
    SessionView,
    Snapshot,
    StartWarm,
    Sweep,
    plan,
)
from grotto_control.core.pool import Pool
from grotto_control.core.sandboxes import Sandbox, Sandboxes
from grotto_control.core.sessions import LiveSession, Sessions
from grotto_control.model.errors import BackendFailure, NotFound
from grotto_control.model.records import SandboxHandle

BackendListener = Callable[[bool], Awaitable[None]]


class Reconciler:
    """Compares what is with what should be, and acts."""

    def __init__(
        self,
        sessions: Sessions,
        sandboxes: Sandboxes,
        pool: Pool,
        backend: Backend,
        rules: PlanRules,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._sessions = sessions
        self._sandboxes = sandboxes
        self._pool = pool
        self._backend = backend
        self._rules = rules
        self._clock = clock
        self._metrics = metrics
        self._trouble: str | None = None
        self._backend_listeners: list[BackendListener] = []
        self._running: dict[Action, asyncio.Task[None]] = {}
        self._failed: dict[Action, tuple[str, float]] = {}
        """Why what the backend holds could not be removed, and when it was last tried."""
        self._log = structlog.get_logger()

    def on_backend(self, listener: BackendListener) -> None:
        """Has `listener` told whether the backend can be asked: first, and at each change."""
        self._backend_listeners.append(listener)

    async def run(self, interval_s: float) -> None:
        """Steps until it is cancelled."""
        while True:
            try:
                await self.step()
            except Exception:
                self._log.exception("reconcile failed")
            await asyncio.sleep(interval_s)

    async def _backend_is(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        if trouble:
            self._log.error("backend cannot be asked", why=trouble)
        elif self._trouble:
            self._log.info("backend can be asked again")
        self._trouble = trouble
        for listener in self._backend_listeners:
            await listener(not trouble)

    async def step(self) -> None:
        """Plans once and sets every due action going; one that still runs is not doubled."""
        snapshot = await self._snapshot()
        self._report(snapshot)
        actions = plan(snapshot, self._rules, self._clock())
        for action in actions:
            if action not in self._running:
                task = asyncio.create_task(self._carry_out(action))
                self._running[action] = task
                task.add_done_callback(partial(self._done, action))

    def _done(self, action: Action, _task: asyncio.Task[None]) -> None:
        self._running.pop(action, None)

    async def settle(self) -> None:
        """Returns when every action set going has ended."""
        while self._running:
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await self.settle()

    async def _snapshot(self) -> Snapshot:
        found = await self._found()
        if found is not None:
            there = {one.handle for one in found}
            self._failed = {
                action: failure
                for action, failure in self._failed.items()
                if isinstance(action, Sweep) and action.handle in there
            }
        return Snapshot(
            sessions=[_session_view(session) for session in self._sessions.all()],
            sandboxes=[_sandbox_view(sandbox) for sandbox in self._sandboxes.all()],
            found=found,
            known=self._sandboxes.known(),
            warm=self._pool.counts(),
            failed_start_s=self._pool.failed_start_s,
            failed_sweeps_s={
                action.handle.sandbox_id: failed_s
                for action, (_, failed_s) in self._failed.items()
                if isinstance(action, Sweep)
            },
        )

    async def _found(self) -> Sequence[Found] | None:
        """Returns None when the backend cannot be asked: what lives goes on without it."""
        try:
            found = await self._backend.list()
        except BackendFailure as error:
            await self._backend_is(error.message)
            return None
        await self._backend_is("")
        return found

    def _report(self, snapshot: Snapshot) -> None:
        bound = sum(sandbox.session is not None for sandbox in snapshot.sandboxes)
        self._metrics.counted(
            sessions=Counter(session.status.value for session in snapshot.sessions),
            sandboxes={
                "bound": bound,
                "unbound": len(snapshot.sandboxes) - bound,
                "changing": len(snapshot.known) - len(snapshot.sandboxes),
            },
            warm=sum(snapshot.warm.values()),
            warm_target=self._rules.pool_size * len(snapshot.warm),
        )

    async def _carry_out(self, action: Action) -> None:
        try:
            await self._doing(action)
        except NotFound:
            pass  # it went away by itself in the meantime
        except BackendFailure as error:
            said, _ = self._failed.get(action, ("", 0.0))
            if said != error.message:
                self._log.error("action failed", action=type(action).__name__, why=error.message)
            self._failed[action] = error.message, self._clock()
        except Exception:
            self._log.exception("action failed", action=type(action).__name__)

    def _doing(self, action: Action) -> Awaitable[None]:
        match action:
            case Expire(tenant, session_id, why):
                self._log.info("session expires", session=session_id, why=why)
                return self._sessions.close(tenant, session_id)
            case Lose(tenant, session_id, why):
                return self._sessions.lose(tenant, session_id, why)
            case Destroy(sandbox_id, why):
                self._log.warning("sandbox destroyed", sandbox=sandbox_id, why=why)
                return self._destroy(sandbox_id)
            case Sweep(handle):
                return self._sweep(handle)
            case Ping(sandbox_id):
                return self._ping(sandbox_id)
            case StartWarm(kind, count):
                return self._refill(kind, count)

    async def _sweep(self, handle: SandboxHandle) -> None:
        await self._backend.destroy(handle)
        self._log.warning("stray sandbox removed", sandbox=handle.sandbox_id)

    async def _destroy(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is not None:
            await self._pool.drop(sandbox)
            await self._sandboxes.end(sandbox)

    async def _ping(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is not None:
            await self._sandboxes.ping(sandbox)

    async def _refill(self, kind: Kind, count: int) -> None:
        self._pool.refill(kind, count)


class KeyWatch:
    """Ends the running calls of revoked keys, and keeps keys in use warm."""

    def __init__(self, authenticator: Authenticator, admission: Admission) -> None:
        self._authenticator = authenticator
        self._admission = admission
        self._log = structlog.get_logger()

    async def run(self, interval_s: float) -> None:
        """Checks until it is cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            with suppress(Exception):
                await self.step()

    async def step(self) -> None:
        self._admission.revoke(await self._authenticator.recheck())


def _session_view(session: LiveSession) -> SessionView:
    record = session.record
    return SessionView(
        tenant=record.tenant,
        session_id=record.session_id,
        status=record.status,
        expires_s=record.expires_s,
        idle_s=record.idle_s,
        idle_since_s=None if session.calls else session.used_s,
        sandbox_id=session.sandbox.record.sandbox_id if session.sandbox else None,
    )


def _sandbox_view(sandbox: Sandbox) -> SandboxView:
    record = sandbox.record
    bound = record.session_id is not None and record.tenant is not None
    return SandboxView(
        sandbox_id=record.sandbox_id,
        session=(record.tenant or "", record.session_id or "") if bound else None,
        answered_s=sandbox.answered_s,
        unanswered_s=sandbox.unanswered_s,
    )
