"""The `Runtime` service: checks the token, hands calls on, turns failures into statuses."""

import asyncio
import contextlib
import hmac
import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

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
from grotto_runtime.daemon import Daemon
from grotto_runtime.errors import STATUS, RuntimeFailure, invalid
from grotto_runtime.memfd import CHUNK_BYTES
from grotto_runtime.session import STALLED_S
from grotto_wire import values

Context = Any
DRAIN_S = 10.0
MESSAGE_BYTES = 4 * 1024 * 1024
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.so_reuseport", 0),
)


class Gate(grpc.aio.ServerInterceptor):
    """Lets only the control plane in, and notes that it is still there."""

    def __init__(self, token: str, on_call: Callable[[], None]) -> None:
        self._token = token.encode()
        self._on_call = on_call
        self._refusal: Any = grpc.unary_unary_rpc_method_handler(_refuse)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        given = dict(details.invocation_metadata or ()).get(TOKEN, "")
        if not hmac.compare_digest(str(given).encode(), self._token):
            return self._refusal
        self._on_call()
        return await continuation(details)


async def _refuse(request: Any, context: Context) -> None:
    await _abort(context, RuntimeFailure(errors_pb2.ERROR_REASON_UNAUTHENTICATED, "wrong token"))


async def _abort(context: Context, failure: RuntimeFailure) -> None:
    await context.abort(
        STATUS[failure.reason],
        failure.message,
        pack_error(failure.reason, failure.message, failure.hint),
    )


class _Failures:
    """`async with _Failures(context)`: a RuntimeFailure ends the call with its status."""

    def __init__(self, context: Context, requests: AsyncIterator[Any] | None = None) -> None:
        self._context = context
        self._requests = requests

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, RuntimeFailure):
            await self._drain()
            await _abort(self._context, error)

    async def _drain(self) -> None:
        """Takes what the caller is still sending: a grpc.aio caller that is told of the end
        while it writes reports INTERNAL and loses the status that says why."""
        if self._requests is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    async for _ in self._requests:
                        continue


class RuntimeServicer(runtime_pb2_grpc.RuntimeServicer):
    """One method a call; what they do is the daemon's and the session's."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def Handshake(
        self, request: runtime_pb2.HandshakeRequest, context: Context
    ) -> runtime_pb2.HandshakeReply:
        bound = self._daemon.bound
        return runtime_pb2.HandshakeReply(
            wire_version=WIRE_VERSION,
            python_version=platform.python_version(),
            codecs=values.CODECS,
            isolation=self._daemon.isolation(),
            bound=bound is not None,
            session_id=bound.session_id if bound else "",
        )

    async def Bind(
        self, request: runtime_pb2.BindRequest, context: Context
    ) -> runtime_pb2.BindReply:
        async with _Failures(context):
            await self._daemon.bind(request)
        return runtime_pb2.BindReply(isolation=self._daemon.isolation())

    async def Execute(
        self, request: execution_pb2.ExecutionSpec, context: Context
    ) -> AsyncIterator[execution_pb2.EventBatch]:
        async with _Failures(context):
            record = self._daemon.session.submit(request)
        async for batch in record.follow():
            yield batch

    async def WatchExecution(
        self, request: runtime_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[execution_pb2.EventBatch]:
        async with _Failures(context):
            record = self._daemon.session.find(request.execution_id)
        async for batch in record.follow():
            yield batch

    async def Interrupt(
        self, request: runtime_pb2.RuntimeInterruptRequest, context: Context
    ) -> sessions_pb2.InterruptReply:
        async with _Failures(context):
            return sessions_pb2.InterruptReply(interrupted=self._daemon.session.interrupt())

    async def PutValue(
        self, requests: AsyncIterator[runtime_pb2.RuntimePutRequest], context: Context
    ) -> values_pb2.PutValueReply:
        async with _Failures(context, requests):
            first = await _first(requests, "spec")
            await self._daemon.session.put(first.spec, _chunks(requests))
        return values_pb2.PutValueReply()

    async def GetValue(  # type: ignore[override]
        self, request: values_pb2.GetSpec, context: Context
    ) -> None:
        # Not a generator: a reader that stops reading must not hold the value for ever.
        async with (
            _Failures(context),
            contextlib.aclosing(self._daemon.session.get(request)) as chunks,
        ):
            async for chunk in chunks:
                await _written(context, chunk)

    async def DescribeNamespace(
        self, request: runtime_pb2.RuntimeDescribeRequest, context: Context
    ) -> values_pb2.Variables:
        async with _Failures(context):
            return await self._daemon.session.describe()

    async def DeleteVariables(
        self, request: values_pb2.DeleteSpec, context: Context
    ) -> sessions_pb2.DeleteVariablesReply:
        async with _Failures(context):
            await self._daemon.session.delete(request)
        return sessions_pb2.DeleteVariablesReply()

    async def Reset(
        self, request: runtime_pb2.RuntimeResetRequest, context: Context
    ) -> sessions_pb2.ResetReply:
        async with _Failures(context):
            await self._daemon.session.reset()
        return sessions_pb2.ResetReply()

    async def UploadFile(
        self, requests: AsyncIterator[runtime_pb2.RuntimeUploadRequest], context: Context
    ) -> values_pb2.FileInfo:
        async with _Failures(context, requests):
            first = await _first(requests, "spec")
            return await self._upload(first.spec, _chunks(requests))

    async def _upload(
        self, spec: values_pb2.FileSpec, chunks: AsyncIterator[bytes]
    ) -> values_pb2.FileInfo:
        upload = self._daemon.session.workspace.upload(spec.path)
        try:
            received = 0
            async for chunk in chunks:
                received += len(chunk)
                if received > spec.size_bytes:
                    raise invalid("the file is longer than announced")
                upload.write(chunk)
            if received != spec.size_bytes:
                raise invalid("the file ended before its announced size", "send it again")
            return upload.commit()
        finally:
            upload.close()

    async def DownloadFile(
        self, request: values_pb2.FileSpec, context: Context
    ) -> AsyncIterator[values_pb2.FileChunk]:
        async with _Failures(context):
            descriptor, info = self._daemon.session.workspace.open_for_read(request.path)
        with open(descriptor, "rb", buffering=0) as file:
            yield values_pb2.FileChunk(info=info)
            left = info.size_bytes  # a file that grows meanwhile ends where it was announced
            while left and (chunk := file.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield values_pb2.FileChunk(chunk=chunk)

    async def ListFiles(self, request: values_pb2.FileSpec, context: Context) -> values_pb2.Files:
        async with _Failures(context):
            return self._daemon.session.workspace.listing(request.path)

    async def GetUsage(
        self, request: runtime_pb2.RuntimeUsageRequest, context: Context
    ) -> sessions_pb2.Usage:
        async with _Failures(context):
            return self._daemon.usage()

    async def Shutdown(
        self, request: runtime_pb2.ShutdownRequest, context: Context
    ) -> runtime_pb2.ShutdownReply:
        self._daemon.stop()
        return runtime_pb2.ShutdownReply()


async def _written(context: Context, chunk: values_pb2.GetValueChunk) -> None:
    try:
        await asyncio.wait_for(context.write(chunk), STALLED_S)
    except TimeoutError as error:
        raise RuntimeFailure(
            errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
            f"no part of the value was taken for {STALLED_S:g} s",
            "retrieve it again",
        ) from error


async def _first(requests: AsyncIterator[Any], part: str) -> Any:
    async for request in requests:
        if request.WhichOneof("part") == part:
            return request
        break
    raise invalid(f"the stream starts with its {part}")


async def _chunks(requests: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk" or len(request.chunk) > CHUNK_BYTES:
            raise invalid(f"after the first message come chunks of at most {CHUNK_BYTES} bytes")
        yield request.chunk


def build(daemon: Daemon, token: str) -> grpc.aio.Server:
    """Returns the server, not yet bound to its socket."""
    server = grpc.aio.server(interceptors=(Gate(token, daemon.called),), options=OPTIONS)
    runtime_pb2_grpc.add_RuntimeServicer_to_server(RuntimeServicer(daemon), server)
    return server
