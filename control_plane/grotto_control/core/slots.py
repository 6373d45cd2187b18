"""How many sandboxes may be starting at once, and who goes first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Queue = deque[asyncio.Future[None]]


class StartSlots:
    """A semaphore with two queues: what a client waits for overtakes what refills a pool."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._awaited: _Queue = deque()
        self._ahead: _Queue = deque()

    @asynccontextmanager
    async def held(self, awaited: bool, patience_s: float | None = None) -> AsyncIterator[None]:
        """Holds a slot; `awaited`: a client waits for this start.

        Raises TimeoutError when there was none for `patience_s`.
        """
        async with asyncio.timeout(patience_s):
            await self._acquire(self._awaited if awaited else self._ahead)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, queue: _Queue) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                queue.remove(turn)
            else:  # it was given the slot at the same moment
                self._release()
            raise

    def _release(self) -> None:
        for queue in (self._awaited, self._ahead):
            for turn in tuple(queue):
                if not turn.cancelled():
                    queue.remove(turn)
                    turn.set_result(None)
                    return
        self._free += 1
