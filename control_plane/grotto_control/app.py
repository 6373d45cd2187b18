"""Builds a control plane from its configuration. The only module that names concrete classes."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from grotto_control import data_dir
from grotto_control.backends import processes
from grotto_control.backends.local import LocalBackend, LocalConfig
from grotto_control.config import DATABASE, SANDBOXES, Config
from grotto_control.core import clock
from grotto_control.core.admission import Admission
from grotto_control.core.auth import Authenticator
from grotto_control.core.backend import Backend
from grotto_control.core.creation import Creator
from grotto_control.core.keys import record_for
from grotto_control.core.pool import Pool
from grotto_control.core.reconciler import KeyWatch, Reconciler
from grotto_control.core.sandboxes import Sandboxes
from grotto_control.core.sessions import SessionRules, Sessions
from grotto_control.core.store import Bounds, Store
from grotto_control.metrics import MetricsServer, PrometheusMetrics
from grotto_control.model.records import SandboxHandle
from grotto_control.rpc.guard import Guard
from grotto_control.rpc.handlers import sessions_handler
from grotto_control.rpc.service import SessionsService
from grotto_control.runtime_client.client import RuntimeClient
from grotto_control.server import Server
from grotto_control.store import open_store

EMBEDDED_TENANT = "local"
KEY_WATCH_S = 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The assembled core, for whoever runs it."""

    store: Store
    sessions: Sessions
    sandboxes: Sandboxes
    pool: Pool
    reconciler: Reconciler
    key_watch: KeyWatch
    metrics: PrometheusMetrics
    guard: Guard


class App:
    """A control plane in this process, between `start` and `stop`."""

    def __init__(self, config: Config, parts: Parts, resources: AsyncExitStack) -> None:
        self.parts = parts
        self._config = config
        self._resources = resources
        self._tasks: list[asyncio.Task[None]] = []
        handler = sessions_handler(SessionsService(parts.sessions), parts.guard)
        self._server = Server(handler)
        self.url = ""
        self.metrics_url: str | None = None

    async def start(self) -> None:
        """Returns when it serves; raises BadConfig."""
        config, parts = self._config, self.parts
        await parts.sessions.restore()
        if config.socket is not None:
            self.url = self._server.listen_unix(config.socket)
        if config.bind is not None:
            self.url = self._server.listen_tcp(config.bind)
        if config.metrics_port is not None:
            shown = MetricsServer(parts.metrics, config.metrics_port)
            self._resources.push_async_callback(asyncio.to_thread, shown.close)
            self.metrics_url = shown.url
        self._tasks = [
            asyncio.create_task(parts.reconciler.run(config.reconcile_every_s)),
            asyncio.create_task(parts.key_watch.run(KEY_WATCH_S)),
        ]
        await self._server.start()

    async def stop(self) -> None:
        """Drains, then ends what must not outlive this process; again is no error."""
        self.parts.sessions.drain()
        await self._server.drain(self._config.drain_grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.parts.reconciler.close()
        await self.parts.pool.close()
        if self._config.lease:
            await self.parts.sessions.end_all()
        await self.parts.sandboxes.release()
        await self._resources.aclose()
        structlog.get_logger().info("stopped")


async def build(config: Config, backend: Backend | None = None) -> App:
    """Returns an app on `config.data_dir`; `backend` stands in for the configured one.

    Raises BadConfig, for one when another server holds the directory.
    """
    config.check()
    data_dir.prepare(config.data_dir)
    async with AsyncExitStack() as resources:
        resources.enter_context(data_dir.held(config.data_dir))
        store = await open_store(config.data_dir / DATABASE)
        resources.push_async_callback(store.close)
        parts = _assemble(config, store, backend or _local_backend(config))
        return App(config, parts, resources.pop_all())


async def admit_embedded(app: App, key: str) -> None:
    """Makes the key that an embedding process chose valid, for its own tenant."""
    await app.parts.store.add_key(record_for(key, EMBEDDED_TENANT, "embedded", time.time()))


def _assemble(config: Config, store: Store, backend: Backend) -> Parts:
    now, metrics = time.time, PrometheusMetrics()
    capabilities = backend.capabilities()

    def connect(handle: SandboxHandle, token: str) -> RuntimeClient:
        return RuntimeClient(handle, token, capabilities.name, metrics)

    sandboxes = Sandboxes(backend, connect, store, now, clock.new_sandbox_id, clock.new_token)
    pool = Pool(sandboxes, config.limits.defaults.disk_bytes, now)
    sandboxes.on_death(pool.drop)
    bounds = Bounds(config.tenant_sessions, config.rules.max_sessions, capabilities.max_tenants)
    sessions = Sessions(
        store,
        sandboxes,
        Creator(store, sandboxes, pool, metrics, now),
        SessionRules(bounds, config.limits),
        now,
        clock.new_session_id,
    )
    authenticator = Authenticator(store, now)
    admission = Admission(config.call_bounds)
    return Parts(
        store=store,
        sessions=sessions,
        sandboxes=sandboxes,
        pool=pool,
        reconciler=Reconciler(sessions, sandboxes, pool, backend, config.rules, now, metrics),
        key_watch=KeyWatch(authenticator, admission),
        metrics=metrics,
        guard=Guard(authenticator, admission, metrics),
    )


def _local_backend(config: Config) -> LocalBackend:
    processes.become_subreaper()
    return LocalBackend(
        LocalConfig(
            root=config.data_dir / SANDBOXES,
            isolation=config.isolation,
            allow_unsandboxed=config.allow_unsandboxed,
            lease=config.lease,
            shared=config.shared_local,
            orphan_grace_s=config.orphan_grace_s,
        )
    )
