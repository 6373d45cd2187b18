"""Another tenant's session is as good as none, in every call of the service.

Generated from the service's descriptor: a new method without an entry in REQUESTS fails.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fakes.control import Client, World, reason_of, running, short_folder
from google.protobuf.descriptor import MethodDescriptor

from grotto_proto.v1 import errors_pb2, execution_pb2, sessions_pb2, values_pb2

SERVICE = sessions_pb2.DESCRIPTOR.services_by_name["Sessions"]
WITHOUT_SESSION = {"CreateSession", "ListSessions"}
METHODS = [method for method in SERVICE.methods if method.name not in WITHOUT_SESSION]
NOT_FOUND = (errors_pb2.ERROR_REASON_NOT_FOUND, "there is no such session.")

SPEC = execution_pb2.ExecutionSpec(execution_id="e2", source="say x")
NAMES = values_pb2.GetSpec(names=["x"])
FILE = values_pb2.FileSpec(path="f", size_bytes=1)

REQUESTS: dict[str, Callable[[str], list[Any]]] = {
    "GetSession": lambda s: [sessions_pb2.GetSessionRequest(session_id=s)],
    "CloseSession": lambda s: [sessions_pb2.CloseSessionRequest(session_id=s)],
    "Execute": lambda s: [sessions_pb2.ExecuteRequest(session_id=s, spec=SPEC)],
    "WatchExecution": lambda s: [
        sessions_pb2.WatchExecutionRequest(session_id=s, execution_id="e1")
    ],
    "Interrupt": lambda s: [sessions_pb2.InterruptRequest(session_id=s)],
    "PutValue": lambda s: [
        sessions_pb2.PutValueRequest(
            header=sessions_pb2.PutValueHeader(
                session_id=s, spec=values_pb2.PutSpec(names=["y"], size_bytes=1)
            )
        ),
        sessions_pb2.PutValueRequest(chunk=b"v"),
    ],
    "GetValue": lambda s: [sessions_pb2.GetValueRequest(session_id=s, spec=NAMES)],
    "DescribeNamespace": lambda s: [sessions_pb2.DescribeNamespaceRequest(session_id=s)],
    "DeleteVariables": lambda s: [
        sessions_pb2.DeleteVariablesRequest(session_id=s, spec=values_pb2.DeleteSpec(names=["x"]))
    ],
    "Reset": lambda s: [sessions_pb2.ResetRequest(session_id=s)],
    "UploadFile": lambda s: [
        sessions_pb2.UploadFileRequest(
            header=sessions_pb2.UploadFileHeader(session_id=s, spec=FILE)
        ),
        sessions_pb2.UploadFileRequest(chunk=b"v"),
    ],
    "DownloadFile": lambda s: [sessions_pb2.DownloadFileRequest(session_id=s, path="f")],
    "ListFiles": lambda s: [sessions_pb2.ListFilesRequest(session_id=s)],
    "GetUsage": lambda s: [sessions_pb2.GetUsageRequest(session_id=s)],
}
"""The messages of a valid call on a session that has a variable x, a file f, an execution e1."""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with short_folder() as folder, running(folder) as world:
        yield world


async def owned(ada: Client, world: World) -> str:
    """A session of ada's on which every call of REQUESTS succeeds."""
    session_id: str = (await ada.create()).id
    await ada.run(session_id, "say x", "e1")
    await ada.put(session_id, "x", b"value")
    world.backend.only.runtime.files["f"] = b"content"
    return session_id


def called(client: Client, method: MethodDescriptor, messages: list[Any]) -> Any:
    call = getattr(client.stub, method.name)
    if not method.client_streaming:
        (request,) = messages
        return call(request, metadata=client.metadata)

    async def stream() -> AsyncIterator[Any]:
        for message in messages:
            yield message

    return call(stream(), metadata=client.metadata)


async def finished(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call


def test_every_method_has_a_request() -> None:
    assert {method.name for method in METHODS} == set(REQUESTS)


def test_every_request_names_a_session() -> None:
    """Field `session_id`, of the message itself or of the header that opens its stream."""
    for method in METHODS:
        fields = method.input_type.fields_by_name
        named = fields if "session_id" in fields else fields["header"].message_type.fields_by_name
        assert "session_id" in named, method.name


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_only_the_owner_reaches_a_session(world: World, method: MethodDescriptor) -> None:
    ada, eve = await world.client("ada"), await world.client("eve")
    session_id = await owned(ada, world)
    messages = REQUESTS[method.name](session_id)
    runtime = world.backend.only.runtime
    before = (list(runtime.sources), dict(runtime.values), dict(runtime.files))

    assert await reason_of(called(eve, method, messages)) == NOT_FOUND
    assert (runtime.sources, runtime.values, runtime.files) == before

    await finished(called(ada, method, messages))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_foreign_and_missing_sessions_are_answered_alike(
    world: World, method: MethodDescriptor
) -> None:
    ada, eve = await world.client("ada"), await world.client("eve")
    session_id = await owned(ada, world)
    missing = session_id[:-1] + ("A" if session_id[-1] != "A" else "B")
    foreign = await reason_of(called(eve, method, REQUESTS[method.name](session_id)))
    assert foreign == await reason_of(called(eve, method, REQUESTS[method.name](missing)))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_without_a_key_there_is_nothing(world: World, method: MethodDescriptor) -> None:
    ada = await world.client("ada")
    session_id = await owned(ada, world)
    nobody = Client(world.channel, "")
    reason, _ = await reason_of(called(nobody, method, REQUESTS[method.name](session_id)))
    assert reason == errors_pb2.ERROR_REASON_UNAUTHENTICATED


async def test_a_list_shows_only_ones_own(world: World) -> None:
    ada, eve = await world.client("ada"), await world.client("eve")
    mine, hers = (await ada.create()).id, (await eve.create()).id
    assert await ada.ids() == {mine}
    assert await eve.ids() == {hers}


async def test_idempotency_keys_are_ones_own(world: World) -> None:
    """The same key and request of another tenant is another session."""
    ada, eve = await world.client("ada"), await world.client("eve")
    mine = await ada.create(idempotency_key="k")
    assert (await eve.create(idempotency_key="k")).id != mine.id
    assert (await ada.create(idempotency_key="k")).id == mine.id
