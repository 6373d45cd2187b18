"""What the control plane does with a backend that has images, applies limits, and fails."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.control import NO_POOL, reason_of, running, short_folder, until
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grotto_control.core.plan import PlanRules
from grotto_control.model.limits import MIB
from grotto_control.server import BACKEND
from grotto_proto.v1 import errors_pb2, sessions_pb2

INVALID = errors_pb2.ERROR_REASON_INVALID_ARGUMENT
UNAVAILABLE = errors_pb2.ERROR_REASON_UNAVAILABLE


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with short_folder() as path:
        yield path


@pytest.fixture
async def backend(folder: Path) -> AsyncIterator[FakeBackend]:
    backend = FakeBackend(folder / "fake")
    backend.images = ("data", "bare")
    yield backend
    await backend.close()


async def test_a_session_gets_the_image_it_asks_for(folder: Path, backend: FakeBackend) -> None:
    async with running(folder, backend) as world:
        ada = await world.client()
        assert (await ada.create()).image == "data"
        chosen = await ada.create(image="bare")
        assert (await ada.get(chosen.id)).image == "bare"
        kinds = [spec.kind.image for spec in backend.asked]
        assert kinds == ["data", "bare"]


@pytest.mark.parametrize("name", ["nothing", "DATA", "data:latest", "\x1b[31m", "x" * 5000])
async def test_an_image_that_is_not_offered_is_refused_with_those_that_are(
    folder: Path, backend: FakeBackend, name: str
) -> None:
    async with running(folder, backend) as world:
        ada = await world.client()
        reason, message = await reason_of(ada.create(image=name))
        assert reason == INVALID and "not offered" in message and "\x1b" not in message
        assert await ada.ids() == set() and not backend.sandboxes


async def test_a_backend_without_images_refuses_any(folder: Path) -> None:
    async with running(folder) as world:
        ada = await world.client()
        assert (await ada.create()).image == ""
        reason, message = await reason_of(ada.create(image="data"))
        assert reason == INVALID and "not offered" in message


async def test_each_image_is_kept_warm(folder: Path, backend: FakeBackend) -> None:
    async with running(folder, backend, rules=PlanRules(pool_size=1)) as world:
        await until(lambda: backend.started == 2)
        assert {spec.kind.image for spec in backend.asked} == {"data", "bare"}
        ada = await world.client()
        await ada.create(image="bare")
        await until(lambda: backend.started == 3)
        assert backend.asked[-1].kind.image == "bare"


async def test_limits_are_applied_before_tenant_code_can_run(
    folder: Path, backend: FakeBackend
) -> None:
    async with running(folder, backend) as world:
        ada = await world.client()
        await ada.create(limits=sessions_pb2.Limits(memory_bytes=64 * MIB, cpus=0.5))
        (applied,) = backend.applied.values()
        assert (applied.memory_bytes, applied.cpus) == (64 * MIB, 0.5)
        backend.apply_failure = "no such cgroup"
        reason, message = await reason_of(ada.create())
        assert reason == UNAVAILABLE and "no such cgroup" in message
        assert len(backend.sandboxes) == 1  # the one that could not be limited is gone


async def test_what_cannot_be_removed_now_is_swept_later(
    folder: Path, backend: FakeBackend
) -> None:
    async with running(folder, backend, rules=replace(NO_POOL, dangling_grace_s=0.1)) as world:
        ada = await world.client()
        session = await ada.create()
        backend.destroy_failure = "the engine is away"
        await ada.close(session.id)
        assert await ada.ids() == set() and len(backend.sandboxes) == 1
        backend.destroy_failure = ""
        await until(lambda: not backend.sandboxes)


async def test_health_tells_whether_the_backend_can_be_asked(
    folder: Path, backend: FakeBackend
) -> None:
    async with running(folder, backend) as world:
        ada = await world.client()
        session = await ada.create()
        await until_health(world.channel, health_pb2.HealthCheckResponse.SERVING)
        backend.list_failure = "the engine is away"
        await until_health(world.channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await ada.run(session.id, "say x")  # what lives goes on
        backend.list_failure = ""
        await until_health(world.channel, health_pb2.HealthCheckResponse.SERVING)


async def test_sessions_expire_and_are_pinged_without_the_backend(
    folder: Path, backend: FakeBackend
) -> None:
    async with running(folder, backend, rules=replace(NO_POOL, ping_every_s=0.1)) as world:
        ada = await world.client()
        await ada.create()
        backend.list_failure = "the engine is away"
        runtime = backend.only.runtime
        before = runtime.handshakes
        await until(lambda: runtime.handshakes >= before + 2)
        expiring = await ada.create(ttl_s=1)
        parts = world.app.parts
        await until(
            lambda: expiring.id not in {r.session_id for r in parts.sessions.of_tenant("ada")}
        )


async def until_health(channel: grpc.aio.Channel, wanted: int) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=BACKEND)
    status = None
    for _ in range(2000):
        try:
            status = (await stub.Check(request)).status
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND  # not asked yet
        if status == wanted:
            return
    raise AssertionError(f"the health of the backend stays {status}")
