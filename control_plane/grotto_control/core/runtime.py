"""What the core asks of the daemon in a sandbox.

The daemon belongs to the sandbox: an implementation checks and caps everything it
says. Errors it reports are GrottoError; SandboxUnreachable means it did not answer.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol

from grotto_control.model.records import Isolation, SandboxHandle, SandboxHello
from grotto_proto.v1 import execution_pb2, runtime_pb2, sessions_pb2, values_pb2


class Runtime(Protocol):
    async def handshake(self, timeout_s: float) -> SandboxHello: ...

    async def bind(self, request: runtime_pb2.BindRequest) -> Isolation: ...

    async def execute(
        self, spec: execution_pb2.ExecutionSpec, max_bytes: int
    ) -> AsyncGenerator[execution_pb2.EventBatch, None]:
        """Returns when the execution has its place in the daemon's queue, or has failed.

        Ending the iteration early ends the stream, not the execution.
        """
        ...

    async def watch(
        self, execution_id: str, max_bytes: int
    ) -> AsyncGenerator[execution_pb2.EventBatch, None]: ...

    async def interrupt(self) -> sessions_pb2.InterruptReply: ...

    async def put_value(
        self, spec: values_pb2.PutSpec, chunks: AsyncIterator[bytes]
    ) -> values_pb2.PutValueReply:
        """`chunks` are serialised messages whose only field is 2, the chunk."""
        ...

    async def get_value(
        self, spec: values_pb2.GetSpec, max_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Yields serialised GetValueChunk messages, the declared size first."""
        ...

    async def describe(self) -> values_pb2.Variables: ...

    async def delete(self, spec: values_pb2.DeleteSpec) -> None: ...

    async def reset(self) -> None: ...

    async def upload(
        self, spec: values_pb2.FileSpec, chunks: AsyncIterator[bytes]
    ) -> values_pb2.FileInfo: ...

    async def download(
        self, spec: values_pb2.FileSpec, max_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Yields serialised FileChunk messages, the file's info first."""
        ...

    async def list_files(self, spec: values_pb2.FileSpec) -> values_pb2.Files: ...

    async def usage(self) -> sessions_pb2.Usage: ...

    async def shutdown(self, timeout_s: float) -> None: ...

    async def close(self) -> None: ...


RuntimeConnector = Callable[[SandboxHandle, str], Runtime]
"""Opens the client of one sandbox from its handle and token; raises SandboxUnreachable."""
