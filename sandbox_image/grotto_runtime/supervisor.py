"""Keeps one live worker and its recovery point; runs requests on it one at a time.

The state machine: a worker is live; after each request that may have changed
the namespace it is `dirty` until a frozen copy of it was made. When it dies, the
copy is thawed and becomes the live worker. Callers hold `turn` while they use
it, which is also the session's queue.
"""

import asyncio
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grotto_proto.v1 import errors_pb2
from grotto_proto.v1 import execution_pb2 as pb
from grotto_runtime import processes
from grotto_runtime.channel import ChannelClosed
from grotto_runtime.errors import FROM_WORKER, RuntimeFailure
from grotto_runtime.incarnation import Incarnation
from grotto_runtime.processes import Reaper
from grotto_runtime.zygote import Zygote
from grotto_wire import frames

FREEZE_S = 10.0
REPLY_FIRST_S = 0.005
"""A fork takes a core for milliseconds: the reply is given that time to leave."""
THAW_S = 10.0


@dataclass
class Recovered:
    """How a dead worker was replaced."""

    state: "pb.State.ValueType"
    note: str


@dataclass
class Totals:
    """Of the session so far; CPU of workers that have ended, in seconds."""

    cpu_s: float = 0.0
    peak_bytes: int = 0
    executions: int = 0


class Supervisor:
    """The live worker of a session, and the means to replace it."""

    def __init__(
        self,
        zygote: Zygote,
        reaper: Reaper,
        configure: frames.Configure,
        keep_points: bool,
        own_pids: Callable[[], set[int]],
    ) -> None:
        self.turn = asyncio.Lock()
        self.totals = Totals()
        self.layers: list[str] = []
        self.on_frame: Callable[[Any], None] = _ignore
        self._zygote = zygote
        self._reaper = reaper
        self._configure = configure
        self._keep_points = keep_points
        self._own_pids = own_pids
        self._ids = itertools.count(1)
        self._live: Incarnation | None = None
        self._frozen: Incarnation | None = None
        self._pristine = True
        self._dirty = False
        self._notes: list[str] = []
        self._freezing: asyncio.Task[None] | None = None

    @property
    def worker(self) -> Incarnation:
        assert self._live is not None, "start() comes first"
        return self._live

    def next_id(self) -> int:
        return next(self._ids)

    def take_notes(self) -> list[str]:
        """Returns, once, what happened to the session between two replies."""
        notes, self._notes = self._notes, []
        return notes

    async def start(self) -> None:
        """Spawns an empty live worker."""
        self._live, self.layers = await self._zygote.spawn(self._configure, self._frame)
        self._pristine, self._dirty = True, False

    async def ready(self) -> Incarnation:
        """Returns the live worker with a recovery point behind it. Holds `turn`."""
        if self.worker.exited.done():
            recovered = await self.recover()
            self._notes.append(f"between two executions {recovered.note}")
        if self._dirty:
            await self._freeze()
        return self.worker

    async def request(self, message: Any, descriptors: tuple[int, ...], within_s: float) -> Any:
        """Has the live worker answer; raises RuntimeFailure. Holds `turn`.

        A worker that dies or overstays is replaced from its recovery point.
        """
        worker = await self.ready()
        reply = asyncio.ensure_future(worker.channel.request(message, descriptors))
        await asyncio.wait(
            {reply, worker.exited}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not reply.done() or reply.cancelled() or reply.exception():
            overstayed = not worker.exited.done()
            reply.cancel()
            worker.kill()
            recovered = await self.recover()
            raise _unfinished(overstayed, within_s, recovered)
        answer = reply.result()
        if isinstance(answer, frames.Failed):
            reason = FROM_WORKER.get(answer.reason, errors_pb2.ERROR_REASON_INTERNAL)
            raise RuntimeFailure(reason, answer.message[:2000], answer.hint[:1000])
        return answer

    def changed(self) -> None:
        """The namespace may differ from the recovery point: makes a new one when idle."""
        self._pristine = False
        self._dirty = True
        if self._keep_points and (self._freezing is None or self._freezing.done()):
            self._freezing = asyncio.create_task(self._freeze_when_idle())

    async def recover(self) -> Recovered:
        """Replaces a dead (or to be killed) worker. Holds `turn`."""
        dead = self.worker
        dead.kill()
        how = str(await self._buried(dead))
        self._end_strays()
        frozen, self._frozen = self._frozen, None
        if frozen is not None and await self._thaw(frozen):
            return Recovered(pb.STATE_RESTORED, how)
        pristine = self._pristine
        await self.start()
        if pristine:
            return Recovered(pb.STATE_RESTORED, how)
        return Recovered(pb.STATE_LOST, f"{how}, and there was no recovery point")

    async def _buried(self, dead: Incarnation) -> processes.Ended:
        """Waits for a worker's end, takes its last output, releases what was its."""
        ended = await dead.exited
        self.totals.cpu_s += ended.cpu_s
        dead.drain()
        dead.close()
        return ended

    async def reset(self) -> None:
        """Goes on with an empty namespace. Holds `turn`."""
        dead = self.worker
        dead.kill()
        await self._buried(dead)
        self._drop_frozen()
        self._end_strays()
        await self.start()

    def usage_of_tree(self) -> tuple[int, int]:
        """Returns (bytes held, number of processes) of worker, copies and their children."""
        pids = self._tenant_pids() | self._frozen_pids()
        return sum(processes.memory(pid).current_bytes for pid in pids), len(pids)

    def cpu_s(self) -> float:
        """CPU seconds of all workers so far."""
        return self.totals.cpu_s + processes.cpu_s(self.worker.pid)

    def live_tree(self) -> tuple[int, int]:
        """Returns (bytes held, number of processes) of the worker and what it started."""
        pids = self._tenant_pids()
        return sum(processes.memory(pid).current_bytes for pid in pids), len(pids)

    def close(self) -> None:
        if self._freezing is not None:
            self._freezing.cancel()
        self._drop_frozen()
        if self._live is not None:
            self._live.close()

    # ---- recovery points ----

    async def _freeze_when_idle(self) -> None:
        await asyncio.sleep(REPLY_FIRST_S)
        async with self.turn:
            if self._dirty and not self.worker.exited.done():
                await self._freeze()

    async def _freeze(self) -> None:
        """Makes a frozen copy of the live worker, then lets the older one go."""
        self._dirty = False
        if not self._keep_points:
            return
        copy = Incarnation(self._reaper)
        copy.on_frame = self._frame
        request = frames.Freeze(self.next_id())
        hello = copy.channel.expect(request.id)
        try:
            done = self.worker.channel.request(request, copy.descriptors)
            answer = await asyncio.wait_for(done, FREEZE_S)
            copy.handed_over()
            if isinstance(answer, frames.Failed):
                raise ChannelClosed
            await asyncio.wait_for(hello, FREEZE_S)
        except (TimeoutError, ChannelClosed):
            copy.close()
            self._drop_frozen()  # it is older than what the next failure should go back to
            self._notes.append("no recovery point could be taken before this execution")
            return
        copy.born()
        self._drop_frozen()
        self._frozen = copy

    async def _thaw(self, copy: Incarnation) -> bool:
        copy.start_reading()
        try:
            request = frames.Thaw(self.next_id())
            await asyncio.wait_for(copy.channel.request(request), THAW_S)
        except (TimeoutError, ChannelClosed):
            copy.close()
            return False
        self._live = copy
        self.changed()
        return True

    def _drop_frozen(self) -> None:
        if self._frozen is not None:
            self._frozen.close()
            self._frozen = None

    # ---- the tree ----

    def _tenant_pids(self) -> set[int]:
        """The live worker and everything it started, orphans included."""
        if self._live is None:
            return set()
        return processes.descendants(os.getpid()) - self._own_pids() - self._frozen_pids()

    def _frozen_pids(self) -> set[int]:
        return {self._frozen.pid} if self._frozen is not None else set()

    def _end_strays(self) -> None:
        """Kills what a dead worker left behind."""
        for pid in self._tenant_pids():
            processes.kill(pid)

    def _frame(self, message: Any) -> None:
        self.on_frame(message)


def _ignore(message: Any) -> None:
    """A frame of no execution."""


def _unfinished(overstayed: bool, within_s: float, recovered: Recovered) -> RuntimeFailure:
    state = "the namespace is as before" if recovered.state == pb.STATE_RESTORED else "it is lost"
    if overstayed:
        return RuntimeFailure(
            errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
            f"the interpreter did not finish within {within_s:g} s; {state}",
        )
    return RuntimeFailure(
        errors_pb2.ERROR_REASON_INVALID_ARGUMENT,
        f"the value ended the interpreter ({recovered.note}); {state}",
    )
