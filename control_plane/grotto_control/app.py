"""Builds a control plane from its configuration. The only module that names concrete classes."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

from grotto_control import certificates, data_dir
from grotto_control.backends import processes
from grotto_control.backends.local import LocalBackend, LocalConfig
from grotto_control.certificates import Certificates
from grotto_control.config import DATABASE, IDENTITY, SANDBOXES, TLS, BadConfig, Config
from grotto_control.core import clock
from grotto_control.core.admission import Admission
from grotto_control.core.auth import Authenticator
from grotto_control.core.backend import Backend, Kind
from grotto_control.core.creation import Creator
from grotto_control.core.keys import record_for
from grotto_control.core.pool import Pool
from grotto_control.core.reconciler import KeyWatch, Reconciler
from grotto_control.core.sandboxes import Sandboxes
from grotto_control.core.sessions import SessionRules, Sessions
from grotto_control.core.slots import StartSlots
from grotto_control.core.store import Bounds, Store
from grotto_control.metrics import MetricsServer, PrometheusMetrics
from grotto_control.model.errors import BackendFailure
from grotto_control.model.records import SandboxHandle
from grotto_control.rpc.guard import Guard
from grotto_control.rpc.handlers import sessions_handler
from grotto_control.rpc.service import SessionsService
from grotto_control.runtime_client.client import RuntimeClient
from grotto_control.server import Server
from grotto_control.store import open_store

if TYPE_CHECKING:
    from grotto_control.backends.docker.backend import DockerBackend

EMBEDDED_TENANT = "local"
_SANDBOX_NEEDS = ("grotto_runtime", "grotto_worker", "IPython")
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

    def __init__(
        self,
        config: Config,
        parts: Parts,
        resources: AsyncExitStack,
        shown: Certificates | None,
    ) -> None:
        self.parts = parts
        self._config = config
        self._resources = resources
        self._tasks: list[asyncio.Task[None]] = []
        handler = sessions_handler(SessionsService(parts.sessions), parts.guard)
        self._server = Server(handler, config.serving, shown)
        parts.reconciler.on_backend(self._backend_is)
        self.ca_file = shown.ca_file if shown else None
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
        if config.metrics_bind is not None:
            shown = MetricsServer(parts.metrics, config.metrics_bind)
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
        await self._server.leave()
        await self.parts.guard.admission.drain(self._config.drain_grace_s)
        await self._server.stop()
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

    async def _backend_is(self, up: bool) -> None:
        self.parts.metrics.backend(up)
        await self._server.backend_is(up)


async def build(config: Config, backend: Backend | None = None) -> App:
    """Returns an app on `config.data_dir`; `backend` stands in for the configured one.

    Raises BadConfig, for one when another server holds the directory.
    """
    config.check()
    data_dir.prepare(config.data_dir)
    async with AsyncExitStack() as resources:
        resources.enter_context(data_dir.held(config.data_dir))
        shown = None
        if config.tls is not None:
            folder = config.data_dir / TLS
            shown = certificates.prepare(config.tls, folder, certificates.now_utc())
        store = await open_store(config.data_dir / DATABASE)
        resources.push_async_callback(store.close)
        metrics = PrometheusMetrics()
        chosen = backend or await _chosen_backend(config, metrics, resources)
        parts = _assemble(config, store, chosen, metrics)
        return App(config, parts, resources.pop_all(), shown)


async def admit_embedded(app: App, key: str) -> None:
    """Makes the key that an embedding process chose valid, for its own tenant."""
    await app.parts.store.add_key(record_for(key, EMBEDDED_TENANT, "embedded", time.time()))


def _assemble(config: Config, store: Store, backend: Backend, metrics: PrometheusMetrics) -> Parts:
    now = time.time
    capabilities = backend.capabilities()

    def connect(handle: SandboxHandle, token: str) -> RuntimeClient:
        return RuntimeClient(handle, token, capabilities.name, metrics)

    sandboxes = Sandboxes(backend, connect, store, now, clock.new_sandbox_id, clock.new_token)
    disk_bytes = config.limits.defaults.disk_bytes
    slots = StartSlots(config.concurrent_starts)
    kinds = [Kind(name, disk_bytes) for name in capabilities.images or ("",)]
    pool = Pool(sandboxes, slots, kinds, now)
    sandboxes.on_death(pool.drop)
    bounds = Bounds(config.tenant_sessions, config.rules.max_sessions, capabilities.max_tenants)
    sessions = Sessions(
        store,
        sandboxes,
        Creator(store, sandboxes, slots, pool, metrics, now),
        SessionRules(bounds, config.limits, capabilities.images),
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


async def _chosen_backend(
    config: Config, metrics: PrometheusMetrics, resources: AsyncExitStack
) -> Backend:
    """Returns the configured backend; raises BadConfig when it cannot work as configured.

    An engine that does not answer is waited for by `docker`, and passed over by `auto`.
    """
    if config.backend == "local" or (config.backend == "auto" and config.lease):
        return _local_backend(config)
    try:
        docker = _docker_backend(config, metrics)
        answered = await docker.open()
    except (BackendFailure, ImportError) as error:
        if config.backend == "docker":
            raise BadConfig(_why_not_docker(error)) from error
        return _local_backend(config)
    resources.push_async_callback(docker.close)
    return docker if answered or config.backend == "docker" else _local_backend(config)


def _why_not_docker(error: BackendFailure | ImportError) -> str:
    if isinstance(error, BackendFailure):
        return f"--backend docker: {error.message} {error.hint}"
    return "--backend docker needs docker-py: pip install 'grotto[docker]'."


def _docker_backend(config: Config, metrics: PrometheusMetrics) -> "DockerBackend":
    # Here, because docker-py is an extra.
    from grotto_control.backends.docker.backend import DockerBackend, DockerConfig
    from grotto_control.backends.docker.engine import Engine
    from grotto_control.backends.docker.identity import kept_identity
    from grotto_control.backends.docker.images import Images

    engine = Engine(config.docker.host, metrics.engine_call)
    settings = DockerConfig(
        runtime=config.docker.runtime,
        separate_uids=config.docker.separate_uids,
        lease=config.lease,
        orphan_grace_s=config.orphan_grace_s,
        limits=config.limits.defaults,
    )
    identity = kept_identity(config.data_dir / IDENTITY)
    return DockerBackend(engine, Images(engine, config.docker.images), identity, settings)


def _local_backend(config: Config) -> LocalBackend:
    missing = [name for name in _SANDBOX_NEEDS if find_spec(name) is None]
    if missing:
        raise BadConfig(
            f"--backend local runs sandboxes from this installation, and it lacks "
            f"{', '.join(missing)}: pip install 'grotto[local]', or use --backend docker."
        )
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
