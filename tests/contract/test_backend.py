"""What every backend promises, on each world: the fake, and sandboxes of this host.

A new backend adds a world; the tests stay.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from fakes.backend import FakeBackend
from fakes.control import short_folder

from grotto_control.backends import launch, processes
from grotto_control.backends.docker.backend import DockerBackend, DockerConfig
from grotto_control.backends.docker.engine import Engine
from grotto_control.backends.docker.identity import kept_identity
from grotto_control.backends.docker.images import Images
from grotto_control.backends.local import LocalBackend, LocalConfig
from grotto_control.config import DockerOptions
from grotto_control.core.backend import Backend, Kind, SandboxSpec
from grotto_control.core.clock import new_sandbox_id, new_token
from grotto_control.metrics import PrometheusMetrics
from grotto_control.model.errors import BackendFailure, GrottoError, SandboxUnreachable
from grotto_control.model.limits import MIB, Limits
from grotto_control.model.records import SandboxHandle
from grotto_control.runtime_client.client import RuntimeClient
from grotto_proto import WIRE_VERSION

TIMEOUT_S = 10.0


@dataclass
class World:
    name: str
    backend: Backend
    again: Callable[[], Backend]
    """Makes what a restarted server would have: the same sandboxes, nothing in memory."""
    kind: Kind = field(default_factory=lambda: Kind("", 16 * MIB))

    def spec(self) -> SandboxSpec:
        return SandboxSpec(new_sandbox_id(), new_token(), self.kind)


def _local(root: Path) -> LocalBackend:
    config = LocalConfig(
        root=root,
        isolation="auto",
        allow_unsandboxed=False,
        lease=False,
        shared=False,
        orphan_grace_s=60.0,
    )
    return LocalBackend(config)


@asynccontextmanager
async def made(name: str) -> AsyncIterator[World]:
    async with short_folder() as folder:
        if name == "fake":
            fake = FakeBackend(folder / "sandboxes")
            yield World("fake", fake, lambda: fake)
            await fake.close()
            return
        if name == "docker":
            async with docker_world(folder) as world:
                yield world
            return
        processes.become_subreaper()
        folder.chmod(0o711)
        backend = _local(folder / "sandboxes")
        yield World("local", backend, lambda: _local(folder / "sandboxes"))
        for found in await backend.list():
            await backend.destroy(found.handle)


@asynccontextmanager
async def docker_world(folder: Path) -> AsyncIterator[World]:
    backends: list[DockerBackend] = []

    def again() -> DockerBackend:
        engine = Engine(DockerOptions().host, lambda *_: None)
        images = Images(engine, DockerOptions().images)
        identity = kept_identity(folder / "identity.json")
        backends.append(DockerBackend(engine, images, identity, DockerConfig()))
        return backends[-1]

    backend = again()
    assert await backend.open()
    yield World("docker", backend, again, Kind("data", 16 * MIB))
    for found in await backend.list():
        await backend.destroy(found.handle)
    for one in backends:
        await one.close()


@pytest.fixture(params=["fake", "local", "docker"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "docker":
        request.getfixturevalue("docker_engine")
    async with made(request.param) as world:
        yield world


def connected(world: World, handle: SandboxHandle, token: str) -> RuntimeClient:
    return RuntimeClient(handle, token, world.name, PrometheusMetrics())


async def test_a_started_sandbox_answers_the_handshake(world: World) -> None:
    asked = world.spec()
    handle = await world.backend.start(asked)
    client = connected(world, handle, asked.token)
    try:
        hello = await client.handshake(TIMEOUT_S)
    finally:
        await client.close()
    assert hello.session_id is None
    assert hello.isolation.backend == world.name
    assert WIRE_VERSION and hello.codecs
    await world.backend.destroy(handle)


async def test_it_answers_to_its_token_only(world: World) -> None:
    handle = await world.backend.start(world.spec())
    client = connected(world, handle, new_token())
    try:
        with pytest.raises(GrottoError):
            await client.handshake(TIMEOUT_S)
    finally:
        await client.close()
    await world.backend.destroy(handle)


async def test_a_handle_survives_serialisation_and_a_restart(world: World) -> None:
    asked = world.spec()
    handle = await world.backend.start(asked)
    stored = msgspec.json.encode(handle)
    json.loads(stored)
    found = msgspec.json.decode(stored, type=SandboxHandle)
    assert found == handle
    restarted = world.again()
    client = connected(world, found, asked.token)
    try:
        await client.handshake(TIMEOUT_S)
    finally:
        await client.close()
    await restarted.destroy(found)
    assert await restarted.list() == []


async def test_list_shows_what_exists(world: World) -> None:
    handles = [await world.backend.start(world.spec()) for _ in range(2)]
    listed = {found.handle.sandbox_id: found for found in await world.again().list()}
    assert set(listed) == {handle.sandbox_id for handle in handles}
    assert all(0 < found.created_s <= time.time() for found in listed.values())
    for found in listed.values():
        await world.backend.destroy(found.handle)
    assert await world.backend.list() == []
    for handle in handles:
        assert await asyncio.wait_for(world.backend.wait(handle), TIMEOUT_S)
        await world.backend.destroy(handle)


async def test_limits_are_applied_to_what_runs(world: World) -> None:
    asked = world.spec()
    handle = await world.backend.start(asked)
    limits = Limits(cpus=0.5, memory_bytes=64 * MIB, pids=32)
    for _ in range(2):
        await world.backend.apply(handle, limits, asked.kind.disk_bytes)
    client = connected(world, handle, asked.token)
    await client.handshake(TIMEOUT_S)
    await client.close()
    await world.backend.destroy(handle)


async def test_wait_ends_with_the_sandbox(world: World) -> None:
    asked = world.spec()
    handle = await world.backend.start(asked)
    waiting = asyncio.create_task(world.backend.wait(handle))
    await asyncio.sleep(0)
    client = connected(world, handle, asked.token)
    assert not waiting.done()
    await client.shutdown(TIMEOUT_S)
    assert await asyncio.wait_for(waiting, TIMEOUT_S)
    await client.close()
    await world.backend.destroy(handle)
    with pytest.raises(SandboxUnreachable):
        connected(world, handle, asked.token)


async def test_destroy_ends_the_sandbox_and_again_is_no_error(world: World) -> None:
    handle = await world.backend.start(world.spec())
    waiting = asyncio.create_task(world.backend.wait(handle))
    await world.backend.destroy(handle)
    await asyncio.wait_for(waiting, TIMEOUT_S)
    await world.backend.destroy(handle)
    await world.again().destroy(handle)
    assert await world.backend.list() == []


async def test_waiting_for_what_is_gone_returns(world: World) -> None:
    handle = await world.backend.start(world.spec())
    await world.backend.destroy(handle)
    assert await asyncio.wait_for(world.backend.wait(handle), TIMEOUT_S)


async def test_a_cancelled_start_leaves_nothing(world: World) -> None:
    starting = asyncio.create_task(world.backend.start(world.spec()))
    await asyncio.sleep(0.05)
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await world.backend.destroy(await starting)  # it was faster
    assert await world.backend.list() == []


# ---- of this host only --------------------------------------------------------


@pytest.fixture
async def local() -> AsyncIterator[World]:
    async with made("local") as world:
        yield world


async def test_a_kill_is_told_with_its_signal(local: World) -> None:
    handle = await local.backend.start(local.spec())
    waiting = asyncio.create_task(local.backend.wait(handle))
    await asyncio.sleep(0)
    os.kill(handle.pid, signal.SIGKILL)
    assert await asyncio.wait_for(waiting, TIMEOUT_S) == "was killed by signal 9"
    await local.backend.destroy(handle)


async def test_a_pid_used_again_is_not_killed(local: World) -> None:
    """Control arm: the same handle with the true start time ends the process."""
    handle = await local.backend.start(local.spec())
    imposter = replace(handle, start_ticks=handle.start_ticks - 1, uid=None)
    assert await asyncio.wait_for(local.backend.wait(imposter), TIMEOUT_S)
    processes.kill_tree(imposter.pid, imposter.start_ticks, None)
    assert processes.start_ticks(handle.pid) == handle.start_ticks
    processes.kill_tree(handle.pid, handle.start_ticks, None)
    assert processes.open_process(handle.pid, handle.start_ticks) is None
    await local.backend.destroy(handle)


async def test_sandboxes_have_users_of_their_own(local: World) -> None:
    first, second = [await local.backend.start(local.spec()) for _ in range(2)]
    if os.geteuid() == 0:
        assert first.uid and second.uid and first.uid != second.uid
        assert os.stat(first.run_dir).st_uid == first.uid
    else:
        assert first.uid is second.uid is None
    for handle in (first, second):
        assert os.stat(handle.run_dir).st_mode & 0o777 == 0o700
        await local.backend.destroy(handle)


async def test_nothing_of_ours_reaches_the_daemon_but_its_line(local: World) -> None:
    asked = local.spec()
    handle = await local.backend.start(asked)
    assert asked.token.encode() not in Path(f"/proc/{handle.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{handle.pid}/environ")
    if os.geteuid() == 0:
        assert environment.read_bytes().strip(b"\0") == b""
    else:  # it is not dumpable, so not even its owner may look
        with pytest.raises(PermissionError):
            environment.read_bytes()
    await local.backend.destroy(handle)


async def test_a_failing_launcher_says_why(local: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for script, words in [
        ("import sys; sys.exit('no \\x1b[31m luck')", "ended before it was ready"),
        ('print(\'{"error": "no \\\\u001b luck", "hint": "h"}\')', r"no \x1b luck"),
        ("print('x' * 10**6)", "ended before it was ready"),
        ("print('[1]')", "ended before it was ready"),
        ("print('{\"pid\": 1}')", "ended before it was ready"),
        ("print('{' * 10000)", "ended before it was ready"),
    ]:
        monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-I", "-c", script))
        with pytest.raises(BackendFailure) as failure:
            await local.backend.start(local.spec())
        assert words in failure.value.message
        assert "\x1b" not in failure.value.message + failure.value.hint
        assert await local.backend.list() == []


async def test_what_a_sandbox_leaves_is_removed_however_it_is_made(local: World) -> None:
    """Deeper than Python recurses, with rights taken away; and a link out is not followed."""
    handle = await local.backend.start(local.spec())
    work = Path(handle.run_dir).parent / "work"
    outside = work.parent.parent.parent / "outside"
    outside.write_text("kept")
    outside.chmod(0o444)
    (work / "link").symlink_to(outside)
    descriptor = os.open(work, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    work.chmod(0)
    await local.backend.destroy(handle)
    assert await local.backend.list() == []
    assert outside.read_text() == "kept" and outside.stat().st_mode & 0o777 == 0o444


async def test_a_crash_between_launch_and_pid_is_found_by_the_user(local: World) -> None:
    """What `process` says before the pid is known is enough to end the sandbox, as root."""
    if os.geteuid() != 0:
        pytest.skip("sandboxes have users of their own only when root starts them")
    handle = await local.backend.start(local.spec())
    note = Path(handle.run_dir).parent / "process"
    note.write_text(json.dumps({"pid": 0, "start_ticks": 0, "uid": handle.uid}))
    (found,) = await local.again().list()
    await local.again().destroy(found.handle)
    assert processes.start_ticks(handle.pid) != handle.start_ticks
