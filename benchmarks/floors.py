"""The floors: what the same acts cost with everything that is Grotto taken away.

Calls go through two Python gRPC hops over unix sockets, from a blocking facade over
an event loop in a background thread, as the SDK's does.
"""

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from benchmarks.hop import CHUNK_BYTES, Calls

T = TypeVar("T")


class Facade:
    """Runs coroutines on an event loop of its own thread and waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Hops:
    """The client of the two hops."""

    def __init__(self, facade: Facade, socket_path: str) -> None:
        self._facade = facade
        self._channel = facade.run(_open(socket_path))
        self._calls = Calls(self._channel)

    def close(self) -> None:
        self._facade.run(self._channel.close(None))

    def execute(self, request: bytes) -> list[bytes]:
        """A server-stream of one message, as a short execution is."""
        return self._facade.run(self._collect(request))

    def put(self, payload: memoryview) -> None:
        """Streams a buffer to the far end; raises RuntimeError unless all of it came."""
        reply = self._facade.run(self._send(payload))
        if int(reply) != payload.nbytes:
            raise RuntimeError(f"{payload.nbytes} bytes were sent and {int(reply)} came")

    def get(self, size_bytes: int) -> bytearray:
        """Streams that many bytes from the far end into one buffer."""
        return self._facade.run(self._receive(size_bytes))

    async def _collect(self, request: bytes) -> list[bytes]:
        return [message async for message in self._calls.execute(request)]

    async def _send(self, payload: memoryview) -> bytes:
        async def chunks() -> AsyncIterator[bytes]:
            for begin in range(0, payload.nbytes, CHUNK_BYTES):
                yield bytes(payload[begin : begin + CHUNK_BYTES])

        return await self._calls.put(chunks())

    async def _receive(self, size_bytes: int) -> bytearray:
        buffer, filled = bytearray(size_bytes), 0
        async for chunk in self._calls.get(str(size_bytes).encode()):
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        if filled != size_bytes:
            raise RuntimeError(f"{size_bytes} bytes were wanted and {filled} came")
        return buffer


async def _open(socket_path: str) -> grpc.aio.Channel:
    channel = grpc.aio.insecure_channel(f"unix:{socket_path}")
    await channel.channel_ready()
    return channel


@contextmanager
def hops() -> Iterator[Hops]:
    """Starts the two hop processes and yields their client."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grotto-floor-")))
        answer, forward = str(folder / "answer"), str(folder / "forward")
        stack.enter_context(process("benchmarks.hop", answer))
        stack.enter_context(process("benchmarks.hop", forward, answer))
        facade = Facade()
        stack.callback(facade.close)
        client = Hops(facade, forward)
        stack.callback(client.close)
        yield client


class Forker:
    """A process with the sandbox's preload imported, which forks when asked."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child

    def fork_s(self) -> float:
        """The seconds from before a fork until the child's first byte came."""
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write("fork\n")
        self._child.stdin.flush()
        return float(self._child.stdout.readline())


@contextmanager
def forker() -> Iterator[Forker]:
    with process("benchmarks.forking") as child:
        yield Forker(child)


@contextmanager
def process(module: str, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Runs a module until the block ends; it says `ready` on stdout and ends with its stdin."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        if child.stdout.readline() != "ready\n":
            raise RuntimeError(f"{module} did not start")
        try:
            yield child
        finally:
            child.stdin.close()
