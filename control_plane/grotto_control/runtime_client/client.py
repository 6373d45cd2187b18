"""Calls of the daemon of one sandbox: implements `core.runtime.Runtime` over gRPC."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from grotto_control.core.metrics import Metrics
from grotto_control.model.errors import GrottoError, SandboxUnreachable
from grotto_control.model.records import Isolation, SandboxHandle, SandboxHello
from grotto_control.runtime_client import replies
from grotto_control.runtime_client.connection import Connection
from grotto_control.runtime_client.faults import misbehaved, translated
from grotto_proto import WIRE_VERSION
from grotto_proto.metadata import TOKEN
from grotto_proto.v1 import execution_pb2, runtime_pb2, runtime_pb2_grpc, sessions_pb2, values_pb2

BIND_TIMEOUT_S = 60.0
CONTROL_TIMEOUT_S = 20.0
"""Of calls that no queue holds back."""

_SERVICE = f"/{runtime_pb2.DESCRIPTOR.services_by_name['Runtime'].full_name}"
_Reply = TypeVar("_Reply")
_Head = TypeVar("_Head", bound=Message)


class RuntimeClient:
    """One channel to one daemon. Errors: GrottoError, SandboxUnreachable."""

    def __init__(self, handle: SandboxHandle, token: str, backend: str, metrics: Metrics) -> None:
        """Raises SandboxUnreachable unless the daemon of `handle` listens."""
        self._connection = Connection(handle)
        self._metadata = ((TOKEN, token),)
        self._backend = backend
        self._metrics = metrics
        channel = self._connection.channel
        # mypy-protobuf types the asynchronous stub as a class of its own, which exists
        # for type checkers only.
        self._stub: runtime_pb2_grpc.RuntimeAsyncStub = runtime_pb2_grpc.RuntimeStub(channel)  # type: ignore[assignment]
        # Without serialisers: chunks are forwarded as they came.
        self._put: Any = channel.stream_unary(
            f"{_SERVICE}/PutValue", None, values_pb2.PutValueReply.FromString
        )
        self._upload: Any = channel.stream_unary(
            f"{_SERVICE}/UploadFile", None, values_pb2.FileInfo.FromString
        )
        self._get: Any = channel.unary_stream(
            f"{_SERVICE}/GetValue", values_pb2.GetSpec.SerializeToString, None
        )
        self._download: Any = channel.unary_stream(
            f"{_SERVICE}/DownloadFile", values_pb2.FileSpec.SerializeToString, None
        )

    async def close(self) -> None:
        await self._connection.close()

    async def handshake(self, timeout_s: float) -> SandboxHello:
        request = runtime_pb2.HandshakeRequest(wire_version=WIRE_VERSION)
        reply = await self._reply(self._stub.Handshake, request, timeout_s)
        return replies.hello(reply, self._backend)

    async def bind(self, request: runtime_pb2.BindRequest) -> Isolation:
        reply = await self._reply(self._stub.Bind, request, BIND_TIMEOUT_S)
        return replies.isolation(reply.isolation, self._backend)

    async def execute(
        self, spec: execution_pb2.ExecutionSpec, max_bytes: int
    ) -> AsyncGenerator[execution_pb2.EventBatch, None]:
        call = self._stub.Execute(spec, metadata=self._metadata)
        return self._events(await _accepted(call), max_bytes, is_new=True)

    async def watch(
        self, execution_id: str, max_bytes: int
    ) -> AsyncGenerator[execution_pb2.EventBatch, None]:
        request = runtime_pb2.WatchRequest(execution_id=execution_id)
        call = self._stub.WatchExecution(request, metadata=self._metadata)
        return self._events(await _accepted(call), max_bytes, is_new=False)

    async def interrupt(self) -> sessions_pb2.InterruptReply:
        request = runtime_pb2.RuntimeInterruptRequest()
        return await self._reply(self._stub.Interrupt, request, CONTROL_TIMEOUT_S)

    async def put_value(
        self, spec: values_pb2.PutSpec, chunks: AsyncIterator[bytes]
    ) -> values_pb2.PutValueReply:
        head = runtime_pb2.RuntimePutRequest(spec=spec)
        reply: values_pb2.PutValueReply = await self._sent(
            self._put(metadata=self._metadata), head, chunks
        )
        return reply

    async def upload(
        self, spec: values_pb2.FileSpec, chunks: AsyncIterator[bytes]
    ) -> values_pb2.FileInfo:
        head = runtime_pb2.RuntimeUploadRequest(spec=spec)
        info: values_pb2.FileInfo = await self._sent(
            self._upload(metadata=self._metadata), head, chunks
        )
        return info

    async def get_value(
        self, spec: values_pb2.GetSpec, max_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        call = self._get(spec, metadata=self._metadata)
        return self._received(await _accepted(call), max_bytes, _value_size)

    async def download(
        self, spec: values_pb2.FileSpec, max_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        call = self._download(spec, metadata=self._metadata)
        return self._received(await _accepted(call), max_bytes, _file_size)

    async def describe(self) -> values_pb2.Variables:
        request = runtime_pb2.RuntimeDescribeRequest()
        return await self._reply(self._stub.DescribeNamespace, request)

    async def delete(self, spec: values_pb2.DeleteSpec) -> None:
        await self._reply(self._stub.DeleteVariables, spec)

    async def reset(self) -> None:
        await self._reply(self._stub.Reset, runtime_pb2.RuntimeResetRequest())

    async def list_files(self, spec: values_pb2.FileSpec) -> values_pb2.Files:
        return await self._reply(self._stub.ListFiles, spec)

    async def usage(self) -> sessions_pb2.Usage:
        request = runtime_pb2.RuntimeUsageRequest()
        return replies.usage(await self._reply(self._stub.GetUsage, request, CONTROL_TIMEOUT_S))

    async def shutdown(self, timeout_s: float) -> None:
        """Asks the daemon to end; that it does is the backend's to see to."""
        with suppress(SandboxUnreachable, GrottoError):
            await self._reply(self._stub.Shutdown, runtime_pb2.ShutdownRequest(), timeout_s)

    async def _reply(
        self,
        method: Callable[..., Awaitable[_Reply]],
        request: Message,
        timeout_s: float | None = None,
    ) -> _Reply:
        with _translating():
            reply = await method(request, metadata=self._metadata, timeout=timeout_s)
        if reply is None:
            raise misbehaved("it sent what cannot be read")
        return reply

    async def _events(
        self, call: Any, max_bytes: int, is_new: bool
    ) -> AsyncGenerator[execution_pb2.EventBatch, None]:
        check = replies.EventCheck(max_bytes)
        with _translating(call):
            async for batch in call:
                check.check(batch)
                yield batch
        outcome = check.end().outcome
        if is_new:
            self._metrics.execution(execution_pb2.Outcome.Name(outcome))

    async def _sent(self, call: Any, head: Message, chunks: AsyncIterator[bytes]) -> Any:
        """Sends head and chunks. If `chunks` fails, the call is cancelled, not half-closed:
        the daemon must never take a cut stream for a whole one."""
        with _translating(call):
            if await _written(call, head.SerializeToString()):
                async for raw in chunks:
                    if not await _written(call, raw):
                        break
                else:
                    await _ended(call)
            reply = await call
        if reply is None:
            raise misbehaved("it sent what cannot be read")
        return reply

    async def _received(
        self, call: Any, max_bytes: int, size_of: Callable[[bytes], int]
    ) -> AsyncGenerator[bytes, None]:
        check: replies.ChunkCheck | None = None
        with _translating(call):
            async for raw in call:
                if check is None:
                    check = replies.ChunkCheck(size_of(raw), max_bytes)
                else:
                    check.check(raw)
                yield raw
        if check is None:
            raise misbehaved("it ended a transfer before it began")
        check.end()


@contextmanager
def _translating(call: Any = None) -> Iterator[None]:
    """Turns failures of a call into errors of ours, and cancels `call` at the end."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise translated(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Not we were cancelled but the call: its channel was closed under it.
        raise SandboxUnreachable("the connection to it was closed") from error
    finally:
        if call is not None:
            call.cancel()


_ALREADY_OVER = (
    grpc.aio.AioRpcError,
    grpc.aio.UsageError,
    asyncio.InvalidStateError,
    RuntimeError,
)


async def _accepted(call: Any) -> Any:
    """Returns the call when the daemon has sent its initial metadata, or the call has ended."""
    try:
        await call.initial_metadata()
    except BaseException:
        call.cancel()
        raise
    return call


async def _written(call: Any, raw: bytes) -> bool:
    """Returns False if the daemon has ended the call already; its status says why."""
    try:
        await call.write(raw)
    except _ALREADY_OVER:
        return False
    return True


async def _ended(call: Any) -> None:
    """Half-closes the call; one that the daemon has ended needs it no more."""
    with suppress(*_ALREADY_OVER):
        await call.done_writing()


def _value_size(raw: bytes) -> int:
    head = _parsed(raw, values_pb2.GetValueChunk)
    if head.WhichOneof("part") != "size_bytes":
        raise misbehaved("it did not declare the size of a value")
    return head.size_bytes


def _file_size(raw: bytes) -> int:
    head = _parsed(raw, values_pb2.FileChunk)
    if head.WhichOneof("part") != "info":
        raise misbehaved("it did not declare the size of a file")
    return head.info.size_bytes


def _parsed(raw: bytes, kind: type[_Head]) -> _Head:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise misbehaved("it sent what cannot be read") from error
