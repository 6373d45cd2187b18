"""Clients that give up and people who handle containers by hand, while the backend works.

Nothing is left behind, nothing hangs, and what is lost is one sandbox.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker_engine import DockerEngine
from docker_worlds import BARE, DISK_BYTES, Tenants, docker_backend, spec, tenants
from fakes.control import short_folder

from grotto_control.backends.docker.backend import DockerBackend, DockerConfig
from grotto_control.backends.docker.deaths import Deaths
from grotto_control.backends.docker.engine import Engine
from grotto_control.backends.docker.identity import kept_identity
from grotto_control.backends.docker.images import ImageRefused, Images
from grotto_control.backends.docker.template import SERVER_LABEL
from grotto_control.config import DockerOptions
from grotto_control.model.errors import SandboxUnreachable
from grotto_control.model.limits import MIB, Limits
from grotto_proto.v1 import sessions_pb2

DEADLINE_S = 30.0
LOST = sessions_pb2.SESSION_STATUS_LOST


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with short_folder() as made:
        yield made


@pytest.fixture
async def backend(docker_engine: DockerEngine, folder: Path) -> AsyncIterator[DockerBackend]:
    async with docker_backend(folder) as made:
        yield made


@pytest.fixture
async def world(docker_engine: DockerEngine, folder: Path) -> AsyncIterator[Tenants]:
    async with tenants(folder) as made:
        yield made


def left_of(engine: DockerEngine, server_id: str) -> str:
    """Containers and volumes of a server, whether sealed or not."""
    label = f"label={SERVER_LABEL}={server_id}"
    containers = engine.docker("ps", "--all", "--quiet", "--filter", label)
    return containers + engine.docker("volume", "ls", "--quiet", "--filter", label)


class Cancelling:
    """An observer of engine calls that cancels a task once a call has been made."""

    def __init__(self, after: str) -> None:
        self._after = after
        self.task: asyncio.Task[object] | None = None
        self.has_struck = False

    def __call__(self, what: str, _outcome: str, _took_s: float) -> None:
        if what == self._after and self.task is not None and not self.has_struck:
            self.has_struck = True
            self.task.cancel()


@pytest.mark.parametrize("call", ["containers.create", "containers.start", "containers.json"])
async def test_a_start_that_is_cancelled_after_any_call_leaves_nothing(
    docker_engine: DockerEngine, folder: Path, call: str
) -> None:
    cancelling = Cancelling(call)
    engine = Engine(DockerOptions().host, cancelling)
    identity = kept_identity(folder / "identity.json")
    backend = DockerBackend(engine, Images(engine, BARE), identity, DockerConfig())
    assert await backend.open()
    cancelling.task = asyncio.create_task(backend.start(spec()))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(cancelling.task), DEADLINE_S)
    assert cancelling.has_struck
    assert left_of(docker_engine, identity.server_id) == ""
    await backend.close()


@pytest.mark.parametrize("turns", [1, 2, 3, 20])
async def test_a_start_that_is_cancelled_twice_during_a_call_leaves_nothing(
    docker_engine: DockerEngine, folder: Path, turns: int
) -> None:
    """The second one comes while the first waits for the engine's answer."""
    async with docker_backend(folder) as backend:
        identity = kept_identity(folder / "identity.json")
        task = asyncio.create_task(backend.start(spec()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        async with asyncio.timeout(DEADLINE_S):
            while left_of(docker_engine, identity.server_id):
                await asyncio.sleep(0.02)


async def test_listening_for_events_leaves_no_thread_however_soon_it_ends(
    docker_engine: DockerEngine,
) -> None:
    before = set(threading.enumerate())
    for turns in (1, 2, 5, 20, 200):
        engine = Engine(DockerOptions().host, lambda *_: None)
        listening = asyncio.create_task(Deaths(engine, "nobody").run())
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await engine.close()
    async with asyncio.timeout(DEADLINE_S):
        while [one for one in set(threading.enumerate()) - before if "_read_events" in one.name]:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("verb", ["kill", "stop", "rm --force", "restart"])
async def test_a_container_that_is_ended_by_hand_is_noticed(
    backend: DockerBackend, docker_engine: DockerEngine, verb: str
) -> None:
    handle, other = await asyncio.gather(backend.start(spec()), backend.start(spec()))
    waiting = asyncio.create_task(backend.wait(handle))
    docker_engine.docker(*verb.split(), handle.container_id or "")
    assert await asyncio.wait_for(waiting, DEADLINE_S)
    await backend.destroy(handle)
    assert [found.handle.sandbox_id for found in await backend.list()] == [other.sandbox_id]


async def test_a_container_that_has_ended_takes_no_limits(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    """A warm sandbox that died is then replaced by a cold one, where its session would fail."""
    handle = await backend.start(spec())
    docker_engine.docker("rm", "--force", handle.container_id or "")
    with pytest.raises(SandboxUnreachable):
        await backend.apply(handle, Limits(memory_bytes=99 * MIB), DISK_BYTES)


async def test_a_container_that_is_renamed_or_paused_is_still_listed_and_destroyed(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    handles = [await backend.start(spec()) for _ in range(2)]
    docker_engine.docker("rename", handles[0].container_id or "", f"{handles[0].sandbox_id}-else")
    docker_engine.docker("pause", handles[1].container_id or "")
    assert len(await backend.list()) == 2
    waiting = [asyncio.create_task(backend.wait(handle)) for handle in handles]
    for handle in handles:
        await asyncio.wait_for(backend.destroy(handle), DEADLINE_S)
    await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE_S)
    assert await backend.list() == []


async def test_a_session_whose_container_is_removed_is_lost_and_its_neighbour_is_not(
    world: Tenants, docker_engine: DockerEngine
) -> None:
    lost, kept = await world.session("eve"), await world.session("bob")
    docker_engine.docker("rm", "--force", lost.name)
    async with asyncio.timeout(DEADLINE_S):
        while (await lost.client.get(lost.id)).status != LOST:
            await asyncio.sleep(0.02)
    assert await kept.value("print(1)") == 1


async def test_a_container_committed_to_an_image_does_not_make_more_of_ours(
    backend: DockerBackend, docker_engine: DockerEngine, folder: Path
) -> None:
    """Its labels come with it, seal and all: such an image is refused."""
    handle = await backend.start(spec())
    image = "grotto-test-hostile:committed"
    docker_engine.docker("commit", handle.container_id or "", image)
    try:
        labels = docker_engine.docker(
            "image", "inspect", "--format", "{{json .Config.Labels}}", image
        )
        assert SERVER_LABEL in json.loads(labels)
        with pytest.raises(ImageRefused, match="labels of ours"):
            async with docker_backend(folder, {"bare": image}):
                raise AssertionError("it was opened")
    finally:
        docker_engine.docker("rmi", image)
