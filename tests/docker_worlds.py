"""A control plane in the test's loop whose sandboxes are containers, and tenants of it.

`DockerBackend` is the real one. What tests see of it from outside, they ask the engine itself.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.control import Client, World, running

from grotto_control.backends.docker.backend import DockerBackend, DockerConfig
from grotto_control.backends.docker.engine import Engine
from grotto_control.backends.docker.identity import Identity, kept_identity
from grotto_control.backends.docker.images import Images
from grotto_control.backends.docker.template import container_name
from grotto_control.config import DockerOptions
from grotto_control.core.backend import Kind, SandboxSpec
from grotto_control.core.clock import new_sandbox_id, new_token
from grotto_control.model.limits import MIB
from grotto_control.model.records import SandboxHandle
from grotto_proto.v1 import execution_pb2

BARE = {"bare": "grotto-sandbox:bare"}
DISK_BYTES = 16 * MIB


def spec(image: str = "bare") -> SandboxSpec:
    """A new sandbox of that image."""
    return SandboxSpec(new_sandbox_id(), new_token(), Kind(image, DISK_BYTES))


@asynccontextmanager
async def docker_backend(
    folder: Path,
    images: Mapping[str, str] = BARE,
    identity: Identity | None = None,
    config: DockerConfig | None = None,
) -> AsyncIterator[DockerBackend]:
    """An open backend; all it made is gone afterwards."""
    engine = Engine(DockerOptions().host, lambda *_: None)
    known = identity or kept_identity(folder / "identity.json")
    backend = DockerBackend(engine, Images(engine, images), known, config or DockerConfig())
    assert await backend.open()
    try:
        yield backend
    finally:
        for found in await backend.list():
            await backend.destroy(found.handle)
        await backend.close()


@dataclass
class Tenants:
    """A control plane over Docker."""

    world: World
    backend: DockerBackend

    async def session(self, tenant: str = "ada", **fields: Any) -> "Session":
        """A new session under policy "open"."""
        client = await self.world.client(tenant)
        made = await client.create(policy="open", **fields)
        live = self.world.app.parts.sessions
        (session,) = [one for one in live.all() if one.record.session_id == made.id]
        assert session.sandbox is not None
        return Session(client, made.id, session.sandbox.handle)


@asynccontextmanager
async def tenants(folder: Path, images: Mapping[str, str] = BARE) -> AsyncIterator[Tenants]:
    async with docker_backend(folder, images) as backend:
        given: Any = backend
        async with running(folder, given) as world:
            found = Tenants(world, backend)
            yield found
            vars(found).clear()


@dataclass
class Session:
    """One tenant's session, and where its sandbox is."""

    client: Client
    id: str
    handle: SandboxHandle

    @property
    def name(self) -> str:
        return container_name(self.handle.sandbox_id)

    async def run(self, source: str) -> "Ran":
        self._count = getattr(self, "_count", 0) + 1
        events = await self.client.run(self.id, source, f"e{self._count}")
        stdout = b"".join(event.stdout for event in events)
        (finished,) = [event.finished for event in events if event.HasField("finished")]
        return Ran(
            execution_pb2.Outcome.Name(finished.outcome).removeprefix("OUTCOME_").lower(),
            stdout.decode(),
            f"{finished.error.name}: {finished.error.message}",
        )

    async def value(self, source: str) -> Any:
        """What the source prints as JSON."""
        ran = await self.run(source)
        assert ran.outcome == "ok", ran
        return json.loads(ran.stdout)


@dataclass(frozen=True)
class Ran:
    """What became of one execution."""

    outcome: str
    stdout: str
    error: str
