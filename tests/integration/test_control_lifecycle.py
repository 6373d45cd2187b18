"""Sessions over time: order, retries, quotas, deaths, restarts, the end of the server."""

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.control import NO_POOL, World, reason_of, running, short_folder, until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from grotto_control.app import build
from grotto_control.config import BadConfig, Config
from grotto_control.core.backend import Kind, SandboxSpec
from grotto_control.core.plan import PlanRules
from grotto_proto.v1 import errors_pb2, sessions_pb2

LOST = errors_pb2.ERROR_REASON_SESSION_LOST


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with short_folder() as path:
        yield path


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    async with running(folder) as world:
        yield world


async def test_a_hundred_executes_at_once_run_in_the_order_they_were_sent(world: World) -> None:
    ada = await world.client()
    session = await ada.create()
    first = ada.execute(session.id, "hold", "e")
    await first.initial_metadata()
    calls = []
    for i in range(100):
        calls.append(ada.execute(session.id, f"say {i}", f"e{i}"))
        await calls[-1].initial_metadata()  # it has its place in the queue

    async def output(call: Any) -> bytes:
        events = [event async for batch in call for event in batch.events]
        return bytes(events[0].stdout)

    assert len(world.backend.only.runtime.executions) == 101  # all are queued behind the first
    world.backend.only.runtime.release_one()
    outputs = await asyncio.gather(*map(output, calls))
    expected = [str(i) for i in range(100)]
    assert [text.decode() for text in outputs] == expected
    assert world.backend.only.runtime.sources == ["hold", *(f"say {i}" for i in expected)]


async def test_a_client_that_vanishes_ends_its_stream_not_the_execution(world: World) -> None:
    ada = await world.client()
    session = await ada.create()
    runtime = world.backend.only.runtime
    call = ada.execute(session.id, "hold", "e1")
    await runtime.holding.wait()
    call.cancel()
    running_calls = world.app.parts.sessions.get("ada", session.id)
    await until(lambda: running_calls.calls == 0)
    assert runtime.holding.is_set()
    runtime.release_one()
    watch = sessions_pb2.WatchExecutionRequest(session_id=session.id, execution_id="e1")
    batches = [b async for b in ada.stub.WatchExecution(watch, metadata=ada.metadata)]
    assert batches[-1].events[-1].HasField("finished")


async def test_an_interrupt_overtakes_a_running_execution(world: World) -> None:
    ada = await world.client()
    session = await ada.create()
    running_one = asyncio.create_task(ada.run(session.id, "hold"))
    await world.backend.only.runtime.holding.wait()
    request = sessions_pb2.InterruptRequest(session_id=session.id)
    reply = await ada.stub.Interrupt(request, metadata=ada.metadata)
    assert reply.interrupted
    await running_one


async def test_creating_again_with_the_same_key_gives_the_same_session(world: World) -> None:
    ada = await world.client()
    created = await asyncio.gather(*(ada.create(idempotency_key="k") for _ in range(10)))
    assert len({session.id for session in created}) == 1
    assert world.backend.started == 1
    assert (await ada.create(idempotency_key="k")).id == created[0].id
    reason, message = await reason_of(ada.create(idempotency_key="k", policy="strict"))
    assert reason == errors_pb2.ERROR_REASON_INVALID_ARGUMENT and "idempotency_key" in message
    await ada.close(created[0].id)
    assert (await ada.create(idempotency_key="k")).id != created[0].id


async def test_a_retry_finds_the_session_its_vanished_creator_asked_for(world: World) -> None:
    ada = await world.client()
    world.backend.start_gate = asyncio.Event()
    first = asyncio.create_task(ada.create(idempotency_key="k"))
    await until(lambda: len(world.app.parts.sandboxes.known()) == 1)
    first.cancel()
    second = asyncio.create_task(ada.create(idempotency_key="k"))
    world.backend.start_gate.set()
    await second
    assert world.backend.started == 1


async def test_a_creator_that_vanishes_leaves_nothing(world: World) -> None:
    ada = await world.client()
    world.backend.start_gate = asyncio.Event()
    creating = asyncio.create_task(ada.create())
    await until(lambda: len(world.app.parts.sandboxes.known()) == 1)
    creating.cancel()
    await until(lambda: not world.app.parts.sandboxes.known())
    await until(lambda: not world.app.parts.sessions.all())
    assert await world.app.parts.store.sessions() == []


async def test_a_quota_holds_under_a_race(folder: Path) -> None:
    async with running(folder, tenant_sessions=5) as world:
        ada, bob = await world.client("ada"), await world.client("bob")
        results = await asyncio.gather(*(ada.create() for _ in range(20)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
        assert len(refused) == 15 and len(await ada.ids()) == 5
        assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert (await reason_of(ada.create()))[0] == errors_pb2.ERROR_REASON_QUOTA_EXCEEDED
        await bob.create()
        await ada.close((await ada.ids()).pop())
        await ada.create()


async def test_a_full_server_says_so(folder: Path) -> None:
    async with running(folder, rules=replace(NO_POOL, max_sessions=1)) as world:
        await (await world.client("ada")).create()
        reason, _ = await reason_of((await world.client("bob")).create())
        assert reason == errors_pb2.ERROR_REASON_CAPACITY


async def test_a_backend_for_one_tenant_refuses_a_second(folder: Path) -> None:
    backend = FakeBackend(folder / "fake", max_tenants=1)
    async with running(folder, backend) as world:
        ada, bob = await world.client("ada"), await world.client("bob")
        session = await ada.create()
        await ada.create()
        reason, message = await reason_of(bob.create())
        assert reason == errors_pb2.ERROR_REASON_PERMISSION_DENIED
        assert "one tenant at a time" in message and "ada" not in message
        for session_id in await ada.ids():
            await ada.close(session_id)
        assert (await bob.create()).id != session.id
    await backend.close()


async def test_a_dead_sandbox_loses_its_session_and_says_why(world: World) -> None:
    ada = await world.client()
    session = await ada.create()
    call = ada.execute(session.id, "hold")
    sandbox = world.backend.only
    await sandbox.runtime.holding.wait()
    await world.backend.kill(sandbox.handle.sandbox_id)
    reason, message = await reason_of(call)
    assert reason == LOST and "was killed by signal 9" in message
    reason, message = await reason_of(ada.execute(session.id, "say x", "e2"))
    assert reason == LOST and "was killed by signal 9" in message
    seen = await ada.get(session.id)
    assert seen.status == sessions_pb2.SESSION_STATUS_LOST
    assert seen.status_note == "its sandbox was killed by signal 9"
    await until(lambda: not world.backend.sandboxes)
    await ada.close(session.id)
    assert await ada.ids() == set()


async def test_closing_a_session_ends_its_running_calls(world: World) -> None:
    ada = await world.client()
    session = await ada.create()
    call = ada.execute(session.id, "hold")
    await world.backend.only.runtime.holding.wait()
    await ada.close(session.id)
    reason, _ = await reason_of(call)
    assert reason == errors_pb2.ERROR_REASON_NOT_FOUND


async def test_expired_and_idle_sessions_are_closed(world: World) -> None:
    ada = await world.client()
    expiring = await ada.create(ttl_s=1)
    idle = await ada.create(idle_s=1)
    kept = await ada.create()
    await until_ids(ada, {kept.id})
    assert {expiring.id, idle.id}.isdisjoint(await ada.ids())
    await until(lambda: len(world.backend.sandboxes) == 1)


async def test_a_stray_sandbox_is_removed(folder: Path) -> None:
    rules = replace(NO_POOL, dangling_grace_s=0.2)
    async with running(folder, rules=rules) as world:
        await world.backend.start(SandboxSpec("b0", "token", Kind("", 1)))
        await until(lambda: not world.backend.sandboxes)


async def test_sandboxes_are_pinged(folder: Path) -> None:
    async with running(folder, rules=replace(NO_POOL, ping_every_s=0.1)) as world:
        ada = await world.client()
        await ada.create()
        runtime = world.backend.only.runtime
        before = runtime.handshakes
        await until(lambda: runtime.handshakes >= before + 2)


async def test_warm_sandboxes_are_taken_and_replaced(folder: Path) -> None:
    async with running(folder, rules=PlanRules(pool_size=1)) as world:
        ada = await world.client()
        await until(lambda: world.backend.started == 1)
        warm = next(iter(world.backend.sandboxes))
        session = await ada.create(limits=sessions_pb2.Limits(cpus=2, wall_s=7))
        bound = world.backend.only
        assert bound.handle.sandbox_id == warm
        assert (bound.runtime.bound.limits.cpus, bound.runtime.bound.limits.wall_s) == (2, 7)
        await until(lambda: world.backend.started == 2)
        other_disk = await ada.create(limits=sessions_pb2.Limits(disk_bytes=2**21))
        assert other_disk.id != session.id and world.backend.started == 3


async def test_a_dead_warm_sandbox_is_not_handed_out(folder: Path) -> None:
    async with running(folder, rules=PlanRules(pool_size=1)) as world:
        ada = await world.client()
        await until(lambda: world.backend.started == 1)
        await world.backend.kill(next(iter(world.backend.sandboxes)))
        session = await ada.create()
        assert await ada.run(session.id, "say x")


async def test_a_failing_backend_is_told_and_left_alone_for_a_while(folder: Path) -> None:
    async with running(folder, rules=PlanRules(pool_size=1)) as world:
        await until(lambda: world.backend.started == 1)
        ada = await world.client()
        await ada.create()
        world.backend.start_failure = "no namespaces here"
        reason, message = await reason_of(ada.create(limits=sessions_pb2.Limits(disk_bytes=2**21)))
        assert reason == errors_pb2.ERROR_REASON_UNAVAILABLE and "no namespaces here" in message
        await until(lambda: world.app.parts.pool.failed_start_s is not None)


async def test_sessions_survive_a_restart_of_the_server(folder: Path) -> None:
    backend = FakeBackend(folder / "fake")
    async with running(folder, backend) as world:
        ada = await world.client()
        key, session = ada.key, await ada.create(labels={"a": "b"})
        killed = await ada.create()
        await ada.put(session.id, "x", b"kept")
    bound = {s.runtime.bound.session_id: s for s in backend.sandboxes.values() if s.runtime.bound}
    await backend.kill(bound[killed.id].handle.sandbox_id)
    async with running(folder, backend) as world:
        ada = world.client_with(key)
        assert await ada.value(session.id, "x") == b"kept"
        assert (await ada.get(session.id)).labels == {"a": "b"}
        reason, message = await reason_of(ada.value(killed.id, "x"))
        assert reason == LOST and "did not survive the restart" in message
        assert backend.started == 2 and len(backend.sandboxes) == 1
    await backend.close()


async def test_a_sandbox_that_answers_for_another_session_is_not_adopted(folder: Path) -> None:
    backend = FakeBackend(folder / "fake")
    async with running(folder, backend) as world:
        ada = await world.client()
        key, session = ada.key, await ada.create()
    backend.only.runtime.bound.session_id = "s_" + "A" * 22
    async with running(folder, backend) as world:
        ada = world.client_with(key)
        reason, _ = await reason_of(ada.value(session.id, "x"))
        assert reason == LOST
    await backend.close()


async def test_embedded_sandboxes_die_with_the_server(folder: Path) -> None:
    backend = FakeBackend(folder / "fake")
    async with running(folder, backend, lease=True, rules=PlanRules(pool_size=1)) as world:
        await (await world.client()).create()
        await until(lambda: backend.started >= 1)
    assert backend.sandboxes == {}


async def test_a_second_server_on_the_same_directory_is_refused(folder: Path) -> None:
    async with running(folder):
        with pytest.raises(BadConfig, match="another server is running on the data directory"):
            await build(Config(folder / "data", bind=None, socket=folder / "s2"))


async def test_draining_lets_running_calls_end_and_takes_no_new_ones(folder: Path) -> None:
    async with running(folder) as world:
        ada = await world.client()
        session = await ada.create()
        runtime = world.backend.only.runtime
        running_one = asyncio.create_task(ada.run(session.id, "hold"))
        await runtime.holding.wait()
        stopping = asyncio.create_task(world.app.stop())
        health: Any = health_pb2_grpc.HealthStub(world.channel)
        await until_not_serving(health)
        assert not running_one.done()
        for call in (ada.ids(), ada.create(), ada.run(session.id, "say x", "e2")):
            reason, message = await reason_of(call)
            assert reason == errors_pb2.ERROR_REASON_UNAVAILABLE
            assert message == "the server is shutting down."
        runtime.release_one()
        events = await running_one
        assert events[-1].HasField("finished")
        await stopping


async def test_a_call_that_outlasts_the_grace_is_ended(folder: Path) -> None:
    async with running(folder, drain_grace_s=0.1) as world:
        ada = await world.client()
        session = await ada.create()
        running_one = asyncio.create_task(ada.run(session.id, "hold"))
        await world.backend.only.runtime.holding.wait()
        await world.app.stop()
        reason, message = await reason_of(running_one)
        assert reason == errors_pb2.ERROR_REASON_UNAVAILABLE
        assert message == "the server is shutting down."


async def test_what_ends_a_running_call_is_taken_in_a_drain(folder: Path) -> None:
    async with running(folder, drain_grace_s=60.0) as world:
        ada = await world.client()
        session = await ada.create()
        running_one = asyncio.create_task(ada.run(session.id, "hold"))
        await world.backend.only.runtime.holding.wait()
        stopping = asyncio.create_task(world.app.stop())
        await until_not_serving(health_pb2_grpc.HealthStub(world.channel))
        request = sessions_pb2.InterruptRequest(session_id=session.id)
        assert (await ada.stub.Interrupt(request, metadata=ada.metadata)).interrupted
        await running_one
        async with asyncio.timeout(10):
            await stopping


async def test_revoking_a_key_ends_its_streams(world: World) -> None:
    ada = await world.client()
    session = await ada.create()
    call = ada.execute(session.id, "hold")
    await world.backend.only.runtime.holding.wait()
    parts = world.app.parts
    (record,) = await parts.store.keys()
    await parts.store.revoke_key(record.key_id, time.time())
    await parts.key_watch.step()
    unauthenticated = errors_pb2.ERROR_REASON_UNAUTHENTICATED
    assert (await reason_of(call))[0] == unauthenticated
    assert (await reason_of(ada.get(session.id)))[0] == unauthenticated


async def test_health_and_reflection_need_no_key(world: World) -> None:
    health: Any = health_pb2_grpc.HealthStub(world.channel)
    for service in ("", "grotto_proto.v1.Sessions"):
        reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(world.channel)

    async def asked() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for reply in reflection.ServerReflectionInfo(asked()):
        names = {service.name for service in reply.list_services_response.service}
        assert "grotto_proto.v1.Sessions" in names


async def test_metrics_count_and_never_name_a_tenant(folder: Path) -> None:
    async with running(folder, metrics_bind="127.0.0.1:0") as world:
        ada = await world.client("secret-tenant")
        session = await ada.create()
        await ada.run(session.id, "say private")
        await reason_of(ada.get("s_unknown"))
        await world.app.parts.reconciler.step()
        key, url = ada.key, world.app.metrics_url
        assert url is not None and url.startswith("http://127.0.0.1:")
        text = (await asyncio.to_thread(urllib.request.urlopen, url)).read().decode()
    for line in (
        'grotto_rpcs_total{code="OK",method="Execute"} 1.0',
        'grotto_rpcs_total{code="NOT_FOUND",method="GetSession"} 1.0',
        'grotto_executions_total{outcome="ok"} 1.0',
        'grotto_sessions{status="ready"} 1.0',
        'grotto_sandboxes{state="bound"} 1.0',
        'grotto_bind_seconds_count{start="cold"} 1.0',
        "grotto_pool_warm 0.0",
    ):
        assert line in text, line
    for secret in ("secret-tenant", "private", session.id, key):
        assert secret not in text


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "10.0.0.1:50151", "example.org:1"])
async def test_an_address_others_can_reach_is_refused_in_clear(folder: Path, bind: str) -> None:
    with pytest.raises(BadConfig, match=r"pass --insecure if you accept that"):
        await build(Config(folder / "data", bind=bind))
    Config(folder / "data", bind=bind, insecure=True).check()


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:50151", "[::1]:0"])
def test_loopback_addresses_are_fine(folder: Path, bind: str) -> None:
    Config(folder / "data", bind=bind).check()


async def until_ids(client: Any, expected: set[str]) -> None:
    async with asyncio.timeout(15):
        while await client.ids() != expected:
            await asyncio.sleep(0.05)


async def until_not_serving(health: Any) -> None:
    request, status = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse
    async with asyncio.timeout(10):
        while (await health.Check(request)).status != status.NOT_SERVING:
            await asyncio.sleep(0.01)
