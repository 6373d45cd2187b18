"""Sandboxes started ahead of their sessions, off the hot path.

One queue for each kind: image and disk, which are fixed when a sandbox is made.
Everything else is applied when it is bound, so a session with its own limits takes a
warm one too. A session that finds its kind empty starts cold, and goes first: a warm
start gets only what no session waits for.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

import structlog

from grotto_control.core.backend import Kind
from grotto_control.core.clock import Clock
from grotto_control.core.sandboxes import Sandbox, Sandboxes
from grotto_control.core.slots import StartSlots
from grotto_control.model.errors import BackendFailure


class _Start:
    """One warm sandbox, from when it is planned until it is taken."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Sandbox]
        self.has_begun = False
        """It has its slot, so it will be there sooner than one started now."""

    @property
    def sandbox(self) -> Sandbox | None:
        task = self.task
        failed = not task.done() or task.cancelled() or task.exception() is not None
        return None if failed else task.result()


class Pool:
    """Warm sandboxes by kind, oldest first; those still starting included."""

    def __init__(
        self, sandboxes: Sandboxes, slots: StartSlots, kinds: Sequence[Kind], clock: Clock
    ) -> None:
        """`kinds`: those that are kept warm, the most wanted first."""
        self._sandboxes = sandboxes
        self._slots = slots
        self._clock = clock
        self._starts: dict[Kind, deque[_Start]] = {kind: deque() for kind in kinds}
        self._trouble = ""
        self._log = structlog.get_logger()
        self.failed_start_s: float | None = None
        """When a warm sandbox last failed to start; None after a success."""

    def counts(self) -> Mapping[Kind, int]:
        """Returns how many there are of each kind that is kept warm."""
        return {kind: len(starts) for kind, starts in self._starts.items()}

    def refill(self, kind: Kind, count: int) -> None:
        """Starts `count` more in the background."""
        for _ in range(count):
            start = _Start()
            start.task = asyncio.create_task(self._started(start, kind))
            start.task.add_done_callback(self._note)
            self._starts[kind].append(start)

    async def take(self, kind: Kind) -> Sandbox | None:
        """Returns a warm sandbox, one that is about to be warm, or None."""
        starts = self._starts.get(kind, deque())
        while (start := _next(starts)) is not None:
            try:
                sandbox = await asyncio.shield(start.task)
            except BackendFailure:
                continue
            except asyncio.CancelledError:
                starts.appendleft(start)
                raise
            if sandbox.end_note is None:
                return sandbox
        return None

    async def drop(self, sandbox: Sandbox) -> None:
        """Forgets a sandbox that died while it was warm."""
        for starts in self._starts.values():
            for start in tuple(starts):
                if start.sandbox is sandbox:
                    starts.remove(start)

    async def close(self) -> None:
        """Ends every sandbox that nobody took."""
        left = [start for starts in self._starts.values() for start in starts]
        for starts in self._starts.values():
            starts.clear()
        for start in left:
            start.task.cancel()
        await asyncio.gather(*(start.task for start in left), return_exceptions=True)
        ready = [start.sandbox for start in left if start.sandbox is not None]
        await asyncio.gather(*map(self._sandboxes.end, ready))

    async def _started(self, start: _Start, kind: Kind) -> Sandbox:
        async with self._slots.held(awaited=False):
            start.has_begun = True
            return await self._sandboxes.start(kind)

    def _note(self, task: asyncio.Task[Sandbox]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            self.failed_start_s = None
            self._trouble = ""
            return
        for starts in self._starts.values():
            for start in tuple(starts):
                if start.task is task:
                    starts.remove(start)
        if error is not None:
            self.failed_start_s = self._clock()
            self._say(str(error))

    def _say(self, trouble: str) -> None:
        """Once, however often it is tried again."""
        if trouble != self._trouble:
            self._log.error("warm start failed", error=trouble)
        self._trouble = trouble


def _next(starts: deque[_Start]) -> _Start | None:
    """Takes one that is ready, else one that has begun to start, else none."""
    for start in starts:
        if start.task.done():
            starts.remove(start)
            return start
    for start in starts:
        if start.has_begun:
            starts.remove(start)
            return start
    return None
