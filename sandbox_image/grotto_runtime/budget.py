"""How many bytes of values may be on their way through the daemon at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Bytes that are lent in the order they were asked for."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._held_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Waits until the bytes are free and holds them; more than the total is held alone."""
        await self._take(size_bytes)
        try:
            yield
        finally:
            self._held_bytes -= size_bytes
            self._admit()

    async def _take(self, size_bytes: int) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, admitted))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self._held_bytes -= size_bytes
            else:
                self._waiting.remove((size_bytes, admitted))
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            size_bytes, admitted = self._waiting[0]
            if self._held_bytes and self._held_bytes + size_bytes > self._total_bytes:
                return
            self._waiting.popleft()
            self._held_bytes += size_bytes
            admitted.set_result(None)
