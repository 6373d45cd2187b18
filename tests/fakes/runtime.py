# ruff: noqa: N802  (gRPC names the methods)
"""A daemon with a namespace of bytes, that misbehaves on request.

Its language: `say TEXT` prints, `hold` runs until it is interrupted or released,
anything else just finishes. One queue, as in the real one.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc

from grotto_proto import WIRE_VERSION
from grotto_proto.metadata import TOKEN, pack_error
from grotto_proto.v1 import (
    errors_pb2,
    execution_pb2,
    runtime_pb2,
    runtime_pb2_grpc,
    sessions_pb2,
    values_pb2,
)

CHUNK_BYTES = 256 * 1024
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass
class Faults:
    """How a daemon misbehaves; all off is a good one."""

    wire_version: int = WIRE_VERSION
    python_version: str = "3.11.7"
    level: str = "none"
    layers: tuple[str, ...] = ("fake",)
    hangs: bool = False
    bind_fails: bool = False
    outcome: int = execution_pb2.OUTCOME_OK
    no_outcome: bool = False
    goes_on: bool = False
    endless: bool = False
    reason: int = 0
    message: str = "x"
    usage_wall_s: float = 1.0
    declared_bytes: int | None = None
    chunk_bytes: int = CHUNK_BYTES


@dataclass
class Execution:
    source: str
    batches: list[execution_pb2.EventBatch] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class FakeRuntime(runtime_pb2_grpc.RuntimeServicer):
    """Implements the service; what came is in `sources`, `values`, `files`, `cut`."""

    def __init__(self, token: str, faults: Faults) -> None:
        self._token = token
        self.faults = faults
        self.bound: runtime_pb2.BindRequest | None = None
        self.sources: list[str] = []
        self.values: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.cut = 0
        self.putting = 0
        self.handshakes = 0
        self.executions: dict[str, Execution] = {}
        self.holding = asyncio.Event()
        self.on_shutdown: Callable[[], None] = lambda: None
        self._released = asyncio.Event()
        self._queue = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def release(self) -> None:
        """Ends what holds, now and later."""
        self._released.set()
        for task in self._tasks:
            task.cancel()

    def release_one(self) -> None:
        """Ends what holds now, as an interrupt does."""
        self._released.set()

    async def Handshake(self, request: Any, context: Context) -> runtime_pb2.HandshakeReply:
        await self._check(context)
        self.handshakes += 1
        return runtime_pb2.HandshakeReply(
            wire_version=self.faults.wire_version,
            python_version=self.faults.python_version,
            codecs=["scalars"],
            isolation=self._isolation(),
            bound=self.bound is not None,
            session_id=self.bound.session_id if self.bound else "",
        )

    async def Bind(
        self, request: runtime_pb2.BindRequest, context: Context
    ) -> runtime_pb2.BindReply:
        await self._check(context)
        if self.faults.bind_fails:
            await _fail(context, errors_pb2.ERROR_REASON_INVALID_ARGUMENT, "no such limits")
        self.bound = request
        return runtime_pb2.BindReply(isolation=self._isolation())

    async def Execute(
        self, request: execution_pb2.ExecutionSpec, context: Context
    ) -> AsyncIterator[execution_pb2.EventBatch]:
        await self._check(context)
        if self.faults.endless:
            while True:
                yield _printed(b"y" * 1_000_000)
        found = self.executions.get(request.execution_id)
        if found is not None and found.source != request.source:
            await _fail(context, errors_pb2.ERROR_REASON_INVALID_ARGUMENT, "other source")
        if found is None:
            found = self.executions[request.execution_id] = Execution(request.source)
            task = asyncio.create_task(self._run(found))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await context.send_initial_metadata(())
        await found.done.wait()
        for batch in found.batches:
            yield batch

    async def WatchExecution(
        self, request: runtime_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[execution_pb2.EventBatch]:
        await self._check(context)
        found = self.executions.get(request.execution_id)
        if found is None:
            await _fail(context, errors_pb2.ERROR_REASON_NOT_FOUND, "no such execution")
        await found.done.wait()
        for batch in found.batches:
            yield batch

    async def Interrupt(self, request: Any, context: Context) -> sessions_pb2.InterruptReply:
        await self._check(context)
        was_holding = self.holding.is_set()
        self._released.set()
        return sessions_pb2.InterruptReply(interrupted=was_holding)

    async def PutValue(
        self, messages: AsyncIterator[runtime_pb2.RuntimePutRequest], context: Context
    ) -> values_pb2.PutValueReply:
        self.putting += 1
        try:
            await self._check(context)
            head, payload = await self._whole(messages)
            self.values.update(dict.fromkeys(head.names, payload))
            return values_pb2.PutValueReply()
        finally:
            self.putting -= 1

    async def GetValue(
        self, request: values_pb2.GetSpec, context: Context
    ) -> AsyncIterator[values_pb2.GetValueChunk]:
        await self._check(context)
        for name in request.names:
            if name not in self.values:
                await _fail(context, errors_pb2.ERROR_REASON_NOT_FOUND, f"no variable {name}")
        payload = b"".join(self.values[name] for name in request.names)
        yield values_pb2.GetValueChunk(size_bytes=self._declared(payload))
        for chunk in self._chunks(payload):
            yield values_pb2.GetValueChunk(chunk=chunk)

    async def DescribeNamespace(self, request: Any, context: Context) -> values_pb2.Variables:
        await self._check(context)
        return values_pb2.Variables(
            variables=[values_pb2.Variable(name=name, type="bytes") for name in self.values]
        )

    async def DeleteVariables(
        self, request: values_pb2.DeleteSpec, context: Context
    ) -> sessions_pb2.DeleteVariablesReply:
        await self._check(context)
        for name in request.names:
            self.values.pop(name, None)
        return sessions_pb2.DeleteVariablesReply()

    async def Reset(self, request: Any, context: Context) -> sessions_pb2.ResetReply:
        await self._check(context)
        self.values.clear()
        return sessions_pb2.ResetReply()

    async def UploadFile(
        self, messages: AsyncIterator[runtime_pb2.RuntimeUploadRequest], context: Context
    ) -> values_pb2.FileInfo:
        await self._check(context)
        head, payload = await self._whole(messages)
        self.files[head.path] = payload
        return values_pb2.FileInfo(path=head.path, size_bytes=len(payload))

    async def DownloadFile(
        self, request: values_pb2.FileSpec, context: Context
    ) -> AsyncIterator[values_pb2.FileChunk]:
        await self._check(context)
        if request.path not in self.files:
            await _fail(context, errors_pb2.ERROR_REASON_NOT_FOUND, f"no file {request.path}")
        payload = self.files[request.path]
        info = values_pb2.FileInfo(path=request.path, size_bytes=self._declared(payload))
        yield values_pb2.FileChunk(info=info)
        for chunk in self._chunks(payload):
            yield values_pb2.FileChunk(chunk=chunk)

    async def ListFiles(self, request: values_pb2.FileSpec, context: Context) -> values_pb2.Files:
        await self._check(context)
        return values_pb2.Files(files=[values_pb2.FileInfo(path=path) for path in self.files])

    async def GetUsage(self, request: Any, context: Context) -> sessions_pb2.Usage:
        await self._check(context)
        return sessions_pb2.Usage(wall_s=self.faults.usage_wall_s, executions=len(self.executions))

    async def Shutdown(self, request: Any, context: Context) -> runtime_pb2.ShutdownReply:
        await self._check(context)
        self.release()
        self.on_shutdown()
        return runtime_pb2.ShutdownReply()

    async def _check(self, context: Context) -> None:
        given = dict(context.invocation_metadata() or ()).get(TOKEN, "")
        if not hmac.compare_digest(str(given), self._token):
            await _fail(context, errors_pb2.ERROR_REASON_UNAUTHENTICATED, "bad token")
        if self.faults.hangs:
            await asyncio.Event().wait()
        if self.faults.reason:
            await _fail(context, self.faults.reason, self.faults.message)

    async def _run(self, execution: Execution) -> None:
        async with self._queue:
            source = execution.source
            self.sources.append(source)
            if source == "hold":
                self.holding.set()
                await self._released.wait()
                self.holding.clear()
                self._released.clear()
            if source.startswith("say "):
                execution.batches.append(_printed(source[4:].encode()))
            if not self.faults.no_outcome:
                execution.batches.append(self._end())
            if self.faults.goes_on:
                execution.batches.append(_printed(b"more"))
            execution.done.set()

    def _end(self) -> execution_pb2.EventBatch:
        finished = execution_pb2.Finished(
            outcome=self.faults.outcome,  # type: ignore[arg-type]
            state=execution_pb2.STATE_KEPT,
        )
        return execution_pb2.EventBatch(events=[execution_pb2.Event(finished=finished)])

    async def _whole(self, messages: AsyncIterator[Any]) -> tuple[Any, bytes]:
        head: Any = None
        payload = b""
        try:
            async for message in messages:
                if head is None:
                    head = message.spec
                else:
                    payload += message.chunk
        except asyncio.CancelledError:
            self.cut += 1
            raise
        # A cancelled stream may also just end: like the real daemon, it goes by the size.
        if head is None or len(payload) != head.size_bytes:
            self.cut += 1
            raise asyncio.CancelledError
        return head, payload

    def _chunks(self, payload: bytes) -> list[bytes]:
        size = self.faults.chunk_bytes
        return [payload[start : start + size] for start in range(0, len(payload), size)]

    def _declared(self, payload: bytes) -> int:
        declared = self.faults.declared_bytes
        return len(payload) if declared is None else declared

    def _isolation(self) -> sessions_pb2.Isolation:
        return sessions_pb2.Isolation(level=self.faults.level, layers=self.faults.layers)


def _printed(text: bytes) -> execution_pb2.EventBatch:
    return execution_pb2.EventBatch(events=[execution_pb2.Event(stdout=text)])


async def _fail(context: Context, reason: int, message: str) -> None:
    await context.abort(
        grpc.StatusCode.FAILED_PRECONDITION,
        message[:200],
        pack_error(reason, message),  # type: ignore[arg-type]
    )
