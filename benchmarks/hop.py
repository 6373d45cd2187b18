"""A process of the floor: a bare gRPC server of bytes, which answers or forwards.

`python -m benchmarks.hop SOCKET` answers; with a second socket it forwards to the
server there, as the control plane does. No protobuf, no authentication, no checks:
what is left is what two Python gRPC hops cost. It ends when its stdin does.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import grpc.aio

SERVICE = "floor.Floor"
CHUNK_BYTES = 1024 * 1024
"""As large as the chunks of Grotto's own streams may be."""


Streaming: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]"
Sending: TypeAlias = "grpc.aio.StreamUnaryMultiCallable[bytes, bytes]"


class Calls:
    """The three methods of a hop as its caller sees them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.execute: Streaming = channel.unary_stream(f"/{SERVICE}/Execute")
        self.put: Sending = channel.stream_unary(f"/{SERVICE}/Put")
        self.get: Streaming = channel.unary_stream(f"/{SERVICE}/Get")


class Answer:
    """The last hop: one message back per call, bytes taken in, bytes sent out."""

    def __init__(self) -> None:
        self._chunk = bytes(CHUNK_BYTES)

    async def execute(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        yield request

    async def put(self, requests: AsyncIterator[bytes], _: object) -> bytes:
        size_bytes = 0
        async for chunk in requests:
            size_bytes += len(chunk)
        return str(size_bytes).encode()

    async def get(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        left = int(request)
        while left > 0:
            yield self._chunk[:left] if left < CHUNK_BYTES else self._chunk
            left -= CHUNK_BYTES


class Forward:
    """The middle hop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._next = Calls(channel)

    async def execute(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        async for event in self._next.execute(request):
            yield event

    async def put(self, requests: AsyncIterator[bytes], _: object) -> bytes:
        return await self._next.put(requests)

    async def get(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        async for chunk in self._next.get(request):
            yield chunk


def handlers(hop: Answer | Forward) -> grpc.GenericRpcHandler:
    """The three methods of a hop, bytes in and bytes out."""
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Execute": grpc.unary_stream_rpc_method_handler(hop.execute),
            "Put": grpc.stream_unary_rpc_method_handler(hop.put),
            "Get": grpc.unary_stream_rpc_method_handler(hop.get),
        },
    )


async def serve(socket_path: str, next_path: str | None) -> None:
    """Serves until stdin ends."""
    server = grpc.aio.server()
    channel = grpc.aio.insecure_channel(f"unix:{next_path}") if next_path else None
    server.add_generic_rpc_handlers((handlers(Forward(channel) if channel else Answer()),))
    server.add_insecure_port(f"unix:{socket_path}")
    await server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    if channel:
        await channel.close()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
