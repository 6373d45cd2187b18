"""Sandboxes started ahead of their sessions, off the hot path.

The key is what is fixed when a sandbox is made: its disk. Everything else is applied
when it is bound, so a session with its own limits takes a warm one too.
"""

import asyncio
from collections import deque

import structlog

from grotto_control.core.clock import Clock
from grotto_control.core.sandboxes import Sandbox, Sandboxes
from grotto_control.model.errors import BackendFailure


class Pool:
    """Warm sandboxes, oldest first; those still starting included."""

    def __init__(self, sandboxes: Sandboxes, disk_bytes: int, clock: Clock) -> None:
        self._sandboxes = sandboxes
        self._disk_bytes = disk_bytes
        self._clock = clock
        self._starts: deque[asyncio.Task[Sandbox]] = deque()
        self._log = structlog.get_logger()
        self.failed_start_s: float | None = None
        """When a warm sandbox last failed to start; None after a success."""

    def __len__(self) -> int:
        return len(self._starts)

    def refill(self, count: int) -> None:
        """Starts `count` more in the background."""
        for _ in range(count):
            task = asyncio.create_task(self._sandboxes.start(self._disk_bytes))
            task.add_done_callback(self._note)
            self._starts.append(task)

    async def take(self, disk_bytes: int) -> Sandbox | None:
        """Returns a warm sandbox, one that is about to be warm, or None."""
        if disk_bytes != self._disk_bytes:
            return None
        while self._starts:
            task = self._next()
            try:
                sandbox = await asyncio.shield(task)
            except BackendFailure:
                continue
            except asyncio.CancelledError:
                self._starts.appendleft(task)
                raise
            if sandbox.end_note is None:
                return sandbox
        return None

    async def drop(self, sandbox: Sandbox) -> None:
        """Forgets a sandbox that died while it was warm."""
        self._starts = deque(
            task for task in self._starts if not _succeeded(task) or task.result() is not sandbox
        )

    async def close(self) -> None:
        """Ends every sandbox that nobody took."""
        tasks, self._starts = list(self._starts), deque()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._sandboxes.end(t.result()) for t in tasks if _succeeded(t)))

    def _next(self) -> asyncio.Task[Sandbox]:
        """Prefers one that is ready to one that is starting."""
        for task in self._starts:
            if task.done():
                self._starts.remove(task)
                return task
        return self._starts.popleft()

    def _note(self, task: asyncio.Task[Sandbox]) -> None:
        if _succeeded(task):
            self.failed_start_s = None
            return
        with_error = None if task.cancelled() else task.exception()
        if task in self._starts:
            self._starts.remove(task)
        if with_error is not None:
            self.failed_start_s = self._clock()
            self._log.error("warm start failed", error=str(with_error))


def _succeeded(task: asyncio.Task[Sandbox]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
