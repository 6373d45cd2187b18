"""A whole control plane in the test's own event loop, reached over a real connection."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
from fakes.backend import FakeBackend

from grotto_control.app import App, build
from grotto_control.config import Config
from grotto_control.core.keys import new_key, record_for
from grotto_control.core.plan import PlanRules
from grotto_control.model.errors import Reason
from grotto_proto import WIRE_VERSION
from grotto_proto.metadata import AUTHORIZATION, unpack_error
from grotto_proto.v1 import execution_pb2, sessions_pb2, sessions_pb2_grpc, values_pb2

NO_POOL = PlanRules(pool_size=0)


def config_for(folder: Path, **changes: Any) -> Config:
    """A configuration on a unix socket, with no pool and short waits."""
    base = Config(
        data_dir=folder / "data",
        bind=None,
        socket=folder / "s",
        rules=NO_POOL,
        drain_grace_s=5.0,
        reconcile_every_s=0.05,
    )
    return replace(base, **changes)


@dataclass
class World:
    """A running control plane, its backend, and clients of it."""

    app: App
    backend: FakeBackend
    channel: grpc.aio.Channel
    folder: Path
    clients: list["Client"] = field(default_factory=list)

    async def client(self, tenant: str = "ada") -> "Client":
        """A client with a new key of the tenant."""
        key = new_key()
        await self.app.parts.store.add_key(record_for(key, tenant, "", time.time()))
        return self.client_with(key)

    def client_with(self, key: str) -> "Client":
        self.clients.append(Client(self.channel, key))
        return self.clients[-1]


@asynccontextmanager
async def running(
    folder: Path, backend: FakeBackend | None = None, **changes: Any
) -> AsyncIterator[World]:
    """Runs a control plane in `folder`; a backend that is given is left as it is."""
    used = backend or FakeBackend(folder / "fake")
    app = await build(config_for(folder, **changes), used)
    try:
        await app.start()
        async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
            world = World(app, used, channel, folder)
            yield world
            # pytest keeps the values of fixtures until after the leak check, and gRPC its
            # poller's sockets as long as there is a channel or server.
            for client in world.clients:
                vars(client).clear()
            vars(world).clear()
    finally:
        await app.stop()
        if backend is None:
            await used.close()


@asynccontextmanager
async def short_folder() -> AsyncIterator[Path]:
    """A folder whose path leaves room for the names of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="c"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Client:
    """The service's stub with a key, and the few calls nearly every test makes."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self.stub: Any = sessions_pb2_grpc.SessionsStub(channel)
        self.key = key
        self.metadata = ((AUTHORIZATION, f"Bearer {key}"),)

    async def create(self, **fields: Any) -> Any:
        client = sessions_pb2.ClientInfo(wire_version=WIRE_VERSION)
        request = sessions_pb2.CreateSessionRequest(client=client, **fields)
        return await self.stub.CreateSession(request, metadata=self.metadata)

    async def ids(self) -> set[str]:
        request = sessions_pb2.ListSessionsRequest()
        reply = await self.stub.ListSessions(request, metadata=self.metadata)
        return {session.id for session in reply.sessions}

    async def get(self, session_id: str) -> Any:
        request = sessions_pb2.GetSessionRequest(session_id=session_id)
        return await self.stub.GetSession(request, metadata=self.metadata)

    async def close(self, session_id: str) -> None:
        request = sessions_pb2.CloseSessionRequest(session_id=session_id)
        await self.stub.CloseSession(request, metadata=self.metadata)

    def execute(self, session_id: str, source: str, execution_id: str = "e1") -> Any:
        """The call, not awaited."""
        spec = execution_pb2.ExecutionSpec(execution_id=execution_id, source=source)
        request = sessions_pb2.ExecuteRequest(session_id=session_id, spec=spec)
        return self.stub.Execute(request, metadata=self.metadata)

    async def run(self, session_id: str, source: str, execution_id: str = "e1") -> list[Any]:
        """The events of a whole execution."""
        call = self.execute(session_id, source, execution_id)
        return [event async for batch in call for event in batch.events]

    def put(
        self, session_id: str, name: str, payload: bytes, size: int | None = None, step: int = 1000
    ) -> Any:
        """The call, fed with header and chunks."""
        declared = len(payload) if size is None else size
        spec = values_pb2.PutSpec(names=[name], size_bytes=declared)
        header = sessions_pb2.PutValueHeader(session_id=session_id, spec=spec)

        async def messages() -> AsyncIterator[Any]:
            yield sessions_pb2.PutValueRequest(header=header)
            for start in range(0, len(payload), step):
                yield sessions_pb2.PutValueRequest(chunk=payload[start : start + step])

        return self.stub.PutValue(messages(), metadata=self.metadata)

    async def value(self, session_id: str, name: str) -> bytes:
        spec = values_pb2.GetSpec(names=[name])
        request = sessions_pb2.GetValueRequest(session_id=session_id, spec=spec)
        chunks = [chunk async for chunk in self.stub.GetValue(request, metadata=self.metadata)]
        payload = b"".join(chunk.chunk for chunk in chunks[1:])
        assert chunks[0].size_bytes == len(payload)
        return payload


async def reason_of(call: Any) -> tuple[Reason, str]:
    """Reason and message of a call that must fail."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        detail = unpack_error(error.trailing_metadata())
        assert detail is not None, f"no detail: {error.code()} {error.details()}"
        assert detail.message == error.details()
        return detail.reason, detail.message
    raise AssertionError("the call succeeded")


async def until(condition: Any) -> None:
    """Polls for up to ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def until_ok(call: Any) -> None:
    """Repeats a call until it succeeds, for up to ten seconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                await call()
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
