"""Sandboxes as containers: one hardened container per sandbox, found again by sealed labels."""

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from grotto_control.backends.docker import launch
from grotto_control.backends.docker.deaths import Deaths
from grotto_control.backends.docker.engine import (
    Engine,
    EngineError,
    EngineUnreachable,
)
from grotto_control.backends.docker.holdings import Holdings, found_handle
from grotto_control.backends.docker.identity import Identity
from grotto_control.backends.docker.images import Images
from grotto_control.backends.docker.template import (
    FIRST_UID,
    LAST_UID,
    RUN_DIR,
    WORKSPACE,
    ContainerSpec,
    Resources,
    container_name,
    create_body,
    resources_for,
    update_body,
)
from grotto_control.core.backend import Capabilities, Found, SandboxSpec
from grotto_control.model.errors import BackendFailure, SandboxUnreachable
from grotto_control.model.limits import Limits
from grotto_control.model.records import SandboxHandle

PRELOAD = ("numpy", "pandas")
LIST_S = 10.0
"""Sooner than a call gives up: what an engine lists tells whether it is there."""


@dataclass(frozen=True, slots=True)
class DockerConfig:
    runtime: str = ""
    """OCI runtime of the engine; "" for its default."""
    separate_uids: bool = True
    """Off only where the engine may grant no capability at all (control B)."""
    lease: bool = False
    orphan_grace_s: float = 300.0
    start_timeout_s: float = 90.0
    limits: Limits = field(default_factory=Limits)
    """What warm sandboxes are made for; others are applied when a session is bound."""


class DockerBackend:
    """Implements `core.backend.Backend` on one engine."""

    def __init__(
        self, engine: Engine, images: Images, identity: Identity, config: DockerConfig
    ) -> None:
        self._engine = engine
        self._images = images
        self._identity = identity
        self._holdings = Holdings(engine, identity)
        self._config = config
        self._deaths = Deaths(engine, identity.server_id)
        self._events: asyncio.Task[None] | None = None
        self._leases: dict[str, asyncio.StreamWriter] = {}
        self._uids: dict[str, int] = {}
        self._applied: dict[str, Resources] = {}

    def capabilities(self) -> Capabilities:
        return Capabilities("docker", None, self._images.names)

    async def open(self) -> bool:
        """Starts to listen for deaths; returns whether the engine answers.

        Raises ImageRefused, and has closed itself then.
        """
        self._events = asyncio.create_task(self._deaths.run())
        try:
            for name in self._images.names:
                await self._images.pinned(name)
        except EngineUnreachable:
            return False
        except BaseException:
            await self.close()
            raise
        return True

    async def close(self) -> None:
        if self._events is not None:
            self._events.cancel()
            await asyncio.gather(self._events, return_exceptions=True)
        for lease in self._leases.values():
            lease.close()
        await self._engine.close()

    async def start(self, spec: SandboxSpec) -> SandboxHandle:
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                return await self._start(spec)
        except EngineUnreachable as error:
            # Removing would fail as well, or keep the client waiting: `list` finds what is left.
            self._uids.pop(spec.sandbox_id, None)
            raise _explained(error) from error
        except BaseException as error:
            await asyncio.shield(self._undo(spec.sandbox_id))
            raise _explained(error) from error

    async def apply(self, handle: SandboxHandle, limits: Limits, disk_bytes: int) -> None:
        wanted = resources_for(limits, disk_bytes)
        if self._applied.get(handle.sandbox_id) == wanted:
            return
        try:
            path = f"/containers/{handle.container_id}/update"
            await self._engine.call("POST", path, body=update_body(wanted))
        except (EngineError, EngineUnreachable) as error:
            if isinstance(error, EngineError) and error.status in (404, 409):
                raise SandboxUnreachable("its container has ended") from error
            raise _explained(error) from error
        self._applied[handle.sandbox_id] = wanted

    async def wait(self, handle: SandboxHandle) -> str:
        container_id = handle.container_id or ""
        self._uids.setdefault(handle.sandbox_id, handle.uid or 0)
        waiting = asyncio.create_task(self._deaths.wait(container_id))
        try:
            await asyncio.sleep(0)  # it is registered now, and no event is missed
            with suppress(EngineError, EngineUnreachable):
                await self._check(container_id)
            return await waiting
        finally:
            waiting.cancel()

    async def destroy(self, handle: SandboxHandle) -> None:
        lease = self._leases.pop(handle.sandbox_id, None)
        if lease is not None:
            lease.close()
        try:
            await self._holdings.remove(handle.sandbox_id, handle.container_id)
        except (EngineError, EngineUnreachable, TimeoutError) as error:
            raise _not_removed(error) from error
        self._uids.pop(handle.sandbox_id, None)
        self._applied.pop(handle.sandbox_id, None)

    async def list(self) -> Sequence[Found]:
        waiting = self._deaths.waiting()
        try:
            async with asyncio.timeout(LIST_S):
                listing = await self._holdings.listing()
        except TimeoutError as error:
            raise _explained(self._engine.too_slow()) from error
        except (EngineError, EngineUnreachable) as error:
            raise _explained(error) from error
        self._deaths.listed(waiting, listing.running)
        return listing.found

    async def _start(self, spec: SandboxSpec) -> SandboxHandle:
        image = await self._images.pinned(spec.kind.image)
        uid = self._new_uid(spec.sandbox_id)
        resources = resources_for(self._config.limits, spec.kind.disk_bytes)
        body = create_body(
            ContainerSpec(
                sandbox_id=spec.sandbox_id,
                image_id=image.image_id,
                image_env=image.env,
                runtime=self._config.runtime,
                daemon_uid=uid,
                worker_uid=uid + 1 if self._config.separate_uids else None,
                socket_gid=os.getegid(),
                disk_bytes=spec.kind.disk_bytes,
                resources=resources,
                labels=self._identity.labels(spec.sandbox_id),
            )
        )
        name = {"name": container_name(spec.sandbox_id)}
        made = await self._engine.call("POST", "/containers/create", name, body)
        container_id = str(made["Id"])
        self._deaths.expect(container_id)
        await self._engine.call("POST", f"/containers/{container_id}/start")
        handle = _handle(spec.sandbox_id, uid, await self._inspected(container_id))
        lease = await launch.hand_over(
            handle,
            self._launch_config(spec),
            lambda: self._deaths.ended(container_id),
            keep=self._config.lease,
        )
        if lease is not None:
            self._leases[spec.sandbox_id] = lease
        self._applied[spec.sandbox_id] = resources
        return handle

    def _launch_config(self, spec: SandboxSpec) -> dict[str, Any]:
        return {
            "sandbox_id": spec.sandbox_id,
            "token": spec.token,
            "run_dir": RUN_DIR,
            "workspace": WORKSPACE,
            "isolation": "container",
            "uid": None,
            "disk_bytes": spec.kind.disk_bytes,
            "inodes": 0,
            "preload": list(PRELOAD),
            "lease": self._config.lease,
            "orphan_grace_s": self._config.orphan_grace_s,
        }

    async def _inspected(self, container_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._engine.call("GET", f"/containers/{container_id}/json")
        return found

    async def _check(self, container_id: str) -> None:
        """Notes the end of a container that had ended before anybody waited for it."""
        try:
            state = (await self._inspected(container_id))["State"]
        except EngineError as error:
            if error.status != 404:
                raise
            state = {"Running": False}
        if not state["Running"]:
            self._deaths.listed(frozenset({container_id}), ())

    def _new_uid(self, sandbox_id: str) -> int:
        """Returns an even uid no sandbox of this server has; the next one is its worker's.

        At random among millions: other servers on this host choose, too.
        """
        taken = set(self._uids.values())
        while (uid := FIRST_UID + 2 * secrets.randbelow((LAST_UID - FIRST_UID) // 2)) in taken:
            continue
        self._uids[sandbox_id] = uid
        return uid

    async def _undo(self, sandbox_id: str) -> None:
        with suppress(BackendFailure):  # what is left is found by `list`
            await self.destroy(found_handle(sandbox_id, None))


def _handle(sandbox_id: str, uid: int, inspected: Mapping[str, Any]) -> SandboxHandle:
    places = [mount["Source"] for mount in inspected["Mounts"] if mount["Destination"] == RUN_DIR]
    return SandboxHandle(
        sandbox_id=sandbox_id,
        pid=int(inspected["State"]["Pid"]),
        start_ticks=0,
        run_dir=places[0],
        uid=uid,
        container_id=str(inspected["Id"]),
    )


def _not_removed(error: Exception) -> BaseException:
    if isinstance(error, TimeoutError):
        return BackendFailure("the Docker engine did not remove the container in time.")
    return _explained(error)


def _explained(error: BaseException) -> BaseException:
    """Returns what the caller of a verb is to see of it."""
    if isinstance(error, EngineUnreachable):
        return BackendFailure(f"{error}.", "is it running? `docker info` tells.")
    if isinstance(error, EngineError):
        return BackendFailure(f"the Docker engine refused: {error.message}")
    if isinstance(error, TimeoutError):
        return BackendFailure("the sandbox was not ready in time.", "the engine may be overloaded.")
    return error
