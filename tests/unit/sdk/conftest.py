"""A scripted `Sessions` server in this process: what the SDK says and how it takes the answers."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import grotto
from grotto_proto.metadata import pack_error
from grotto_proto.v1 import errors_pb2, execution_pb2, sessions_pb2, values_pb2
from grotto_proto.v1.sessions_pb2_grpc import SessionsServicer, add_SessionsServicer_to_server

KEY = "grotto_0123abcd_" + "k" * 43
OK = execution_pb2.Finished(
    outcome=execution_pb2.OUTCOME_OK,
    state=execution_pb2.STATE_KEPT,
    usage=execution_pb2.ExecutionUsage(wall_s=0.25, cpu_s=0.125, peak_memory_bytes=4096),
)


class Failure:
    """How the fake fails a call: with a reason, or with a bare status."""

    def __init__(
        self, status: grpc.StatusCode, reason: int | None = None, text: str = "no"
    ) -> None:
        self.status, self.reason, self.text = status, reason, text


class FakeSessions(SessionsServicer):
    """Answers from scripts; records what it was asked."""

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.metadata: list[dict[str, str]] = []
        self.failures: dict[str, list[Failure]] = defaultdict(list)
        self.batches: list[list[execution_pb2.Event] | Failure] = []
        self.running = threading.Event()
        self.interrupted = threading.Event()
        self.values: list[values_pb2.GetValueChunk] = []
        self.downloads: list[values_pb2.FileChunk] = []
        self.variables: list[values_pb2.Variable] = []
        self.limits = sessions_pb2.Limits()
        self.received = bytearray()

    async def _enter(self, method: str, request: Any, context: Any) -> None:
        self.requests[method].append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.failures[method]:
            await self.fail(self.failures[method].pop(0), context)

    async def fail(self, failure: Failure, context: Any) -> None:
        if failure.reason is not None:
            context.set_trailing_metadata(pack_error(failure.reason, failure.text, "Do better."))
        await context.abort(failure.status, failure.text)

    def session(self, session_id: str = "s-1") -> sessions_pb2.Session:
        isolation = sessions_pb2.Isolation(backend="fake", level="full", layers=["seccomp"])
        return sessions_pb2.Session(
            id=session_id, isolation=isolation, limits=self.limits, created_s=1.0, policy="standard"
        )

    async def CreateSession(self, request, context):  # noqa: N802
        await self._enter("CreateSession", request, context)
        return self.session()

    async def GetSession(self, request, context):  # noqa: N802
        await self._enter("GetSession", request, context)
        return self.session(request.session_id)

    async def ListSessions(self, request, context):  # noqa: N802
        await self._enter("ListSessions", request, context)
        return sessions_pb2.ListSessionsReply(sessions=[self.session("a"), self.session("b")])

    async def CloseSession(self, request, context):  # noqa: N802
        await self._enter("CloseSession", request, context)
        return sessions_pb2.CloseSessionReply()

    async def Execute(self, request, context):  # noqa: N802
        await self._enter("Execute", request, context)
        async for batch in self._play(context):
            yield batch

    async def WatchExecution(self, request, context):  # noqa: N802
        await self._enter("WatchExecution", request, context)
        async for batch in self._play(context):
            yield batch

    async def _play(self, context: Any) -> AsyncIterator[execution_pb2.EventBatch]:
        self.running.set()
        while self.batches:
            step = self.batches.pop(0)
            if isinstance(step, Failure):
                await self.fail(step, context)
            elif not step:  # an empty step: the execution goes on until it is interrupted
                while not self.interrupted.is_set():
                    await asyncio.sleep(0.005)
            else:
                yield execution_pb2.EventBatch(events=step)
                if step[-1].HasField("finished"):
                    return

    async def Interrupt(self, request, context):  # noqa: N802
        await self._enter("Interrupt", request, context)
        self.interrupted.set()
        return sessions_pb2.InterruptReply(interrupted=True)

    async def PutValue(self, requests, context):  # noqa: N802
        await self._take("PutValue", requests, context)
        return values_pb2.PutValueReply()

    async def UploadFile(self, requests, context):  # noqa: N802
        await self._take("UploadFile", requests, context)
        return values_pb2.FileInfo()

    async def _take(self, method: str, requests: Any, context: Any) -> None:
        self.received.clear()
        sizes = []
        async for request in requests:
            if request.HasField("header"):
                await self._enter(method, request.header, context)
            else:
                sizes.append(len(request.chunk))
                self.received += request.chunk
        self.requests[method + ".sizes"].append(sizes)

    async def GetValue(self, request, context):  # noqa: N802
        await self._enter("GetValue", request, context)
        for part in self.values:
            yield part

    async def DownloadFile(self, request, context):  # noqa: N802
        await self._enter("DownloadFile", request, context)
        for part in self.downloads:
            yield part

    async def DescribeNamespace(self, request, context):  # noqa: N802
        await self._enter("DescribeNamespace", request, context)
        return values_pb2.Variables(variables=self.variables)

    async def DeleteVariables(self, request, context):  # noqa: N802
        await self._enter("DeleteVariables", request, context)
        return sessions_pb2.DeleteVariablesReply()

    async def Reset(self, request, context):  # noqa: N802
        await self._enter("Reset", request, context)
        return sessions_pb2.ResetReply()

    async def ListFiles(self, request, context):  # noqa: N802
        await self._enter("ListFiles", request, context)
        file = values_pb2.FileInfo(path="data/a.csv", size_bytes=3)
        return values_pb2.Files(files=[file], truncated=True)

    async def GetUsage(self, request, context):  # noqa: N802
        await self._enter("GetUsage", request, context)
        return sessions_pb2.Usage(executions=7, wall_s=float("nan"))


class FakeServer:
    """The fake on a unix socket, on a thread of its own, that can be stopped and started."""

    def __init__(self, path: Path) -> None:
        self.fake = FakeSessions()
        self.url = f"unix://{path}"
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: Any = None
        self.start()

    def start(self) -> None:
        self._call(self._start())

    async def _start(self) -> None:
        self._server = grpc.aio.server()
        add_SessionsServicer_to_server(self.fake, self._server)
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()

    def stop(self) -> None:
        """Drops every connection, as a killed server does."""
        self._call(self._server.stop(None))

    def close(self) -> None:
        self.stop()
        self._server = None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    running = FakeServer(tmp_path_factory.mktemp("s") / "c.sock")
    yield running
    running.close()


@pytest.fixture
def fake(server: FakeServer) -> FakeSessions:
    return server.fake


@pytest.fixture
def client(server: FakeServer) -> Iterator[grotto.Client]:
    with grotto.connect(server.url, KEY) as connected:
        yield connected


@pytest.fixture
def session(client: grotto.Client) -> Iterator[grotto.Session]:
    with client.session() as opened:
        yield opened


@pytest.fixture
def failure() -> type[Failure]:
    return Failure


@pytest.fixture
def finished() -> Callable[..., execution_pb2.Event]:
    """Makes the last event; `ok` unless told otherwise."""

    def make(**fields: Any) -> execution_pb2.Event:
        last = execution_pb2.Finished()
        last.CopyFrom(OK)
        last.MergeFrom(execution_pb2.Finished(**fields))
        return execution_pb2.Event(finished=last)

    return make


@pytest.fixture
def reasons() -> dict[str, int]:
    return dict(errors_pb2.ErrorReason.items())
