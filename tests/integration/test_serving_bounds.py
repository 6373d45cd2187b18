"""What one peer may take of the server: each bound is met, and the server serves others on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from fakes.control import Client, World, reason_of, running, short_folder, until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from grotto_control.config import ServingBounds
from grotto_control.core.admission import CallBounds
from grotto_control.model.limits import MAX_MESSAGE_BYTES
from grotto_proto.v1 import errors_pb2, sessions_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS = 4


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with short_folder() as path:
        yield path


@asynccontextmanager
async def another_connection(
    world: World, *options: tuple[str, int]
) -> AsyncIterator[grpc.aio.Channel]:
    own = ("grpc.use_local_subchannel_pool", 1)
    async with grpc.aio.insecure_channel(f"unix:{world.folder}/s", (own, *options)) as channel:
        yield channel


async def is_served(world: World) -> bool:
    """Whether a new peer gets an answer."""
    async with another_connection(world) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        reply = await health.Check(health_pb2.HealthCheckRequest())
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def test_a_message_over_the_limit_is_refused(folder: Path) -> None:
    async with running(folder) as world:
        ada = await world.client()
        request = sessions_pb2.CreateSessionRequest(labels={"a": "x" * MAX_MESSAGE_BYTES})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ada.stub.CreateSession(request, metadata=ada.metadata)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await ada.ids() == set()


@pytest.mark.parametrize(("size", "is_taken"), [(1000, True), (9000, False)])
async def test_metadata_is_bounded(folder: Path, size: int, is_taken: bool) -> None:
    async with running(folder, serving=ServingBounds(metadata_bytes=8192)) as world:
        ada = await world.client()
        call = ada.stub.ListSessions(
            sessions_pb2.ListSessionsRequest(), metadata=(*ada.metadata, ("x-much", "x" * size))
        )
        if is_taken:
            await call
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await is_served(world)


@pytest.mark.parametrize(("streams", "starts"), [(1, False), (2, True)])
async def test_a_connection_has_so_many_streams(folder: Path, streams: int, starts: bool) -> None:
    async with running(folder, serving=ServingBounds(streams=streams)) as world:
        ada = await world.client()
        session = await ada.create()
        holding = ada.execute(session.id, "hold")
        await world.backend.only.runtime.holding.wait()
        second = asyncio.create_task(ada.ids())
        async with another_connection(world) as channel:  # a third of the bound's connection
            other = Client(channel, ada.key)
            for _ in range(20):
                await other.ids()
            vars(other).clear()
        assert second.done() is starts
        world.backend.only.runtime.release_one()
        async for _ in holding:
            pass
        assert await second == {session.id}


async def _answer(peer: socket.socket) -> bytes:
    """The first frame's head, or nothing when the server closes the connection."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        try:
            return await loop.sock_recv(peer, 9)
        except ConnectionResetError:
            return b""


def _peer(world: World) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.setblocking(False)
    peer.connect(f"{world.folder}/s")
    return peer


@pytest.mark.parametrize(("connections", "is_taken"), [(3, False), (4, True)])
async def test_there_are_so_many_connections(
    folder: Path, connections: int, is_taken: bool
) -> None:
    async with running(folder, serving=ServingBounds(connections=connections)) as world:
        peers = [_peer(world) for _ in range(4)]
        try:
            for peer in peers[:3]:
                peer.send(PREFACE)
                assert (await _answer(peer))[3] == SETTINGS
            with suppress(BrokenPipeError):  # it is closed before it has said a word
                peers[3].send(PREFACE)
            head = await _answer(peers[3])
            assert (head[3:4] == bytes([SETTINGS])) is is_taken
            peers[0].close()
            await until_served(world)
        finally:
            for peer in peers:
                peer.close()


async def until_served(world: World) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                assert await is_served(world)
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)


async def test_a_peer_that_says_nothing_is_disconnected(folder: Path) -> None:
    async with running(folder, serving=ServingBounds(handshake_s=0.2)) as world:
        with _peer(world) as peer:
            while await _answer(peer):
                continue  # the server's own settings, and its farewell


async def test_an_idle_connection_is_closed_and_made_again(folder: Path) -> None:
    async with running(folder, serving=ServingBounds(idle_connection_s=0.2)) as world:
        ada = await world.client()
        await ada.ids()
        await until(lambda: world.channel.get_state() is grpc.ChannelConnectivity.IDLE)
        assert await ada.ids() == set()


@pytest.mark.parametrize(("ping_every_s", "survives"), [(30.0, False), (0.01, True)])
async def test_a_peer_that_pings_too_often_is_disconnected(
    folder: Path, ping_every_s: float, survives: bool
) -> None:
    often = (
        ("grpc.keepalive_time_ms", 50),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with running(folder, serving=ServingBounds(ping_every_s=ping_every_s)) as world:
        ada = await world.client()
        session = await ada.create()
        async with another_connection(world, *often) as channel:
            pinging = Client(channel, ada.key)
            call = pinging.execute(session.id, "hold")
            running_one = asyncio.create_task(_end_of(call))
            await world.backend.only.runtime.holding.wait()
            done, _ = await asyncio.wait([running_one], timeout=1.0 if survives else 20.0)
            assert bool(done) is not survives
            world.backend.only.runtime.release_one()
            code = await running_one
            vars(pinging).clear()
        assert code is (grpc.StatusCode.OK if survives else grpc.StatusCode.UNAVAILABLE)
        assert await ada.ids() == {session.id}


async def _end_of(call: Any) -> grpc.StatusCode:
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    return await call.code()


async def test_a_client_s_deadline_ends_the_call_at_the_daemon(folder: Path) -> None:
    async with running(folder) as world:
        ada = await world.client()
        session = await ada.create()
        live = world.app.parts.sessions.get("ada", session.id)
        request = sessions_pb2.ExecuteRequest(session_id=session.id)
        request.spec.execution_id, request.spec.source = "e1", "hold"
        call = ada.stub.Execute(request, metadata=ada.metadata, timeout=0.3)
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: live.calls == 0)


async def test_a_call_without_a_deadline_is_bounded(folder: Path) -> None:
    async with running(folder, call_bounds=CallBounds(call_s=0.3)) as world:
        ada = await world.client()
        session = await ada.create()
        reason, message = await reason_of(ada.execute(session.id, "hold", "e1"))
        assert reason == errors_pb2.ERROR_REASON_UNAVAILABLE, "so that a client asks again"
        assert "as long as one may" in message
        world.backend.only.runtime.release_one()
        assert (await ada.run(session.id, "hold", "e1"))[-1].HasField("finished")


async def test_watching_health_is_not_offered_without_a_key(folder: Path) -> None:
    async with running(folder) as world:
        health: Any = health_pb2_grpc.HealthStub(world.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in health.Watch(health_pb2.HealthCheckRequest(service="x")):
                pass
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await is_served(world)


async def test_reflection_is_for_so_many_at_once(folder: Path) -> None:
    async with running(folder, serving=ServingBounds(keyless_streams=1)) as world:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(world.channel)
        first = stub.ServerReflectionInfo()
        await first.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await first.read()).HasField("list_services_response")
        assert await stub.ServerReflectionInfo().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.done_writing()
        assert await first.code() is grpc.StatusCode.OK
        third = stub.ServerReflectionInfo()
        await third.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await third.read()).HasField("list_services_response")
        third.cancel()
