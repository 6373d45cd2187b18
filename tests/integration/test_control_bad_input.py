"""What clients get wrong, over a real connection: one clear error each, nothing half done."""

import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from fakes.control import Client, World, reason_of, running, short_folder, until, until_ok

from grotto_control.core.admission import CallBounds
from grotto_control.model.limits import MAX_CHUNK_BYTES
from grotto_proto import WIRE_VERSION
from grotto_proto.v1 import errors_pb2, execution_pb2, sessions_pb2, values_pb2

INVALID = errors_pb2.ERROR_REASON_INVALID_ARGUMENT
NOT_FOUND = errors_pb2.ERROR_REASON_NOT_FOUND


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with short_folder() as folder, running(folder) as world:
        yield world


@pytest.fixture
async def ada(world: World) -> Client:
    return await world.client()


@pytest.mark.parametrize("key", ["", "grotto_00000000_" + "A" * 43, "~ ~"])
async def test_a_bad_key_is_refused_everywhere_alike(world: World, key: str) -> None:
    answers = {
        await reason_of(Client(world.channel, key).get("s_x")),
        await reason_of(Client(world.channel, key).create()),
        await reason_of(Client(world.channel, key).execute("s_x", "1")),
    }
    assert answers == {
        (
            errors_pb2.ERROR_REASON_UNAUTHENTICATED,
            "the API key is missing or not valid.",
        )
    }


@pytest.mark.parametrize(
    "session_id", ["", "s_", "x" * 10_000, "s_" + "A" * 22, "../../x", "\x1b[2J"]
)
async def test_an_unknown_session_is_not_found(ada: Client, session_id: str) -> None:
    for call in (ada.get(session_id), ada.execute(session_id, "1"), ada.put(session_id, "x", b"1")):
        assert await reason_of(call) == (NOT_FOUND, "there is no such session.")


CREATIONS: list[tuple[dict[str, Any], str]] = [
    ({"policy": "lax"}, "lax"),
    ({"policy": "\x1b[31m"}, r"\x1b[31m"),
    ({"limits": sessions_pb2.Limits(cpus=-1)}, "limits.cpus is -1.0; this server allows 0.05 to"),
    ({"limits": sessions_pb2.Limits(wall_s=math.nan)}, "limits.wall_s is nan"),
    ({"limits": sessions_pb2.Limits(memory_bytes=2**63)}, "limits.memory_bytes is 9223372036854"),
    ({"limits": sessions_pb2.Limits(pids=2**32 - 1)}, "limits.pids is 4294967295"),
    ({"ttl_s": -1}, "ttl_s is -1.0"),
    ({"ttl_s": math.inf}, "ttl_s is inf"),
    ({"idle_s": math.nan}, "idle_s is nan"),
    ({"env": {"A B": "x"}}, "env name 'A B'"),
    ({"env": {"": "x"}}, "env name ''"),
    ({"env": {"A": "x" * 10_000}}, "env['A'] must have at most 8192 bytes"),
    ({"env": {f"A{i}": "" for i in range(65)}}, "env has 65 entries"),
    ({"env": {"A": "a\0b"}}, "no NUL"),
    ({"labels": {"-": "x"}}, "labels name '-'"),
    ({"labels": {"a\u202eb": "x"}}, r"labels name 'a\u202eb'"),
    ({"idempotency_key": "a b"}, "idempotency_key"),
    ({"idempotency_key": "k" * 129}, "idempotency_key"),
]


@pytest.mark.parametrize(("fields", "words"), CREATIONS, ids=[c[1][:30] for c in CREATIONS])
async def test_creation_names_what_was_wrong(
    world: World, ada: Client, fields: dict[str, Any], words: str
) -> None:
    reason, message = await reason_of(ada.create(**fields))
    assert reason == INVALID and words in message, message
    assert world.backend.started == 0 and await ada.ids() == set()


async def test_another_wire_version_is_refused(ada: Client) -> None:
    client = sessions_pb2.ClientInfo(wire_version=WIRE_VERSION + 1)
    request = sessions_pb2.CreateSessionRequest(client=client)
    reason, message = await reason_of(ada.stub.CreateSession(request, metadata=ada.metadata))
    assert reason == errors_pb2.ERROR_REASON_VERSION_MISMATCH
    assert f"wire version {WIRE_VERSION + 1}, this server {WIRE_VERSION}" in message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"execution_id": ""}, "execution_id"),
        ({"execution_id": "../x"}, "execution_id"),
        ({"execution_id": "e" * 65}, "execution_id"),
        ({"execution_id": "e", "source": "x" * 262_145}, "larger than 262144 bytes"),
        ({"execution_id": "e", "source": "é" * 131_073}, "larger than 262144 bytes"),
        (
            {"execution_id": "e", "limits": execution_pb2.ExecutionLimits(wall_s=-1)},
            "limits.wall_s",
        ),
        (
            {"execution_id": "e", "limits": execution_pb2.ExecutionLimits(cpu_s=math.nan)},
            "limits.cpu_s",
        ),
    ],
)
async def test_bad_executions_do_not_reach_the_sandbox(
    world: World, ada: Client, spec: dict[str, Any], words: str
) -> None:
    session = await ada.create()
    request = sessions_pb2.ExecuteRequest(
        session_id=session.id, spec=execution_pb2.ExecutionSpec(**spec)
    )
    reason, message = await reason_of(ada.stub.Execute(request, metadata=ada.metadata))
    assert reason == INVALID and words in message
    assert world.backend.only.runtime.sources == []


async def test_a_message_over_the_limit_is_refused_by_the_transport(ada: Client) -> None:
    session = await ada.create()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ada.run(session.id, "x" * 10_000_000)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await ada.run(session.id, "1")


async def test_a_value_over_the_limit_is_refused_before_it_is_sent(
    world: World, ada: Client
) -> None:
    session = await ada.create(limits=sessions_pb2.Limits(value_bytes=2000))
    reason, message = await reason_of(ada.put(session.id, "x", b"v" * 2001))
    assert reason == errors_pb2.ERROR_REASON_VALUE_TOO_LARGE
    assert "2001 bytes" in message and "allows 2000" in message
    assert world.backend.only.runtime.cut == 0
    await ada.put(session.id, "x", b"v" * 2000)


@pytest.mark.parametrize(
    ("sent", "declared", "words"),
    [(500, 1000, "cut: 500 of 1000"), (0, 1, "cut: 0 of 1"), (1001, 1000, "more than the 1000")],
)
async def test_a_stream_that_is_not_what_it_declared_binds_nothing(
    world: World, ada: Client, sent: int, declared: int, words: str
) -> None:
    session = await ada.create()
    runtime = world.backend.only.runtime
    reason, message = await reason_of(ada.put(session.id, "x", b"v" * sent, size=declared))
    assert reason == INVALID and words in message
    await until(lambda: runtime.putting == 0)  # cut off, if it had come so far at all
    assert runtime.values == {}


async def test_a_client_that_vanishes_in_the_middle_of_a_put_binds_nothing(
    world: World, ada: Client
) -> None:
    session = await ada.create()
    runtime = world.backend.only.runtime
    call = ada.stub.PutValue(metadata=ada.metadata)
    spec = values_pb2.PutSpec(names=["x"], size_bytes=1000)
    header = sessions_pb2.PutValueHeader(session_id=session.id, spec=spec)
    await call.write(sessions_pb2.PutValueRequest(header=header))
    await call.write(sessions_pb2.PutValueRequest(chunk=b"v" * 500))
    await until(lambda: runtime.putting == 1)
    call.cancel()
    await until(lambda: runtime.putting == 0)
    assert runtime.values == {}
    await ada.put(session.id, "x", b"whole")
    assert await ada.value(session.id, "x") == b"whole"


async def test_chunks_are_bounded(ada: Client) -> None:
    session = await ada.create()
    fits = b"v" * MAX_CHUNK_BYTES
    await ada.put(session.id, "x", fits, step=MAX_CHUNK_BYTES)
    reason, message = await reason_of(ada.put(session.id, "x", fits + b"v", step=10**9))
    assert reason == INVALID and "at most 1048576 bytes" in message


async def test_a_stream_must_open_with_its_header(ada: Client) -> None:
    async def headless() -> AsyncIterator[Any]:
        yield sessions_pb2.PutValueRequest(chunk=b"x")

    async def empty() -> AsyncIterator[Any]:
        return
        yield

    for messages in (headless(), empty()):
        reason, message = await reason_of(ada.stub.PutValue(messages, metadata=ada.metadata))
        assert reason == INVALID and "header" in message


async def test_a_second_header_is_no_chunk(world: World, ada: Client) -> None:
    """The daemon reads field 1 as its own header: it must never see one of a client's."""
    session = await ada.create()
    spec = values_pb2.PutSpec(names=["x"], size_bytes=1)
    header = sessions_pb2.PutValueHeader(session_id=session.id, spec=spec)

    async def twice() -> AsyncIterator[Any]:
        yield sessions_pb2.PutValueRequest(header=header)
        yield sessions_pb2.PutValueRequest(header=header)

    reason, _ = await reason_of(ada.stub.PutValue(twice(), metadata=ada.metadata))
    assert reason == INVALID
    assert world.backend.only.runtime.values == {}


async def test_no_names_and_bad_paths(ada: Client) -> None:
    session = await ada.create()
    get = sessions_pb2.GetValueRequest(session_id=session.id)
    assert (await reason_of(ada.stub.GetValue(get, metadata=ada.metadata)))[0] == INVALID
    delete = sessions_pb2.DeleteVariablesRequest(session_id=session.id)
    assert (await reason_of(ada.stub.DeleteVariables(delete, metadata=ada.metadata)))[0] == INVALID
    for path in ("", "a\0b", "x" * 5000):
        download = sessions_pb2.DownloadFileRequest(session_id=session.id, path=path)
        reason, message = await reason_of(ada.stub.DownloadFile(download, metadata=ada.metadata))
        assert reason == INVALID and "path" in message


async def test_a_tenant_may_have_so_many_calls_running() -> None:
    async with short_folder() as folder:
        bounds = CallBounds(calls=2, transfers=1)
        async with running(folder, call_bounds=bounds) as world:
            ada, bob = await world.client("ada"), await world.client("bob")
            session = await ada.create()
            holding = [ada.execute(session.id, "hold", f"e{i}") for i in range(2)]
            runtime = world.backend.only.runtime
            await until(lambda: len(runtime.executions) == 2)
            reason, message = await reason_of(ada.get(session.id))
            assert reason == errors_pb2.ERROR_REASON_QUOTA_EXCEEDED and "2 calls" in message
            await ada.put(session.id, "x", b"transfers are counted apart")
            assert await bob.ids() == set()
            for call in holding:
                call.cancel()
            await until_ok(lambda: ada.get(session.id))
