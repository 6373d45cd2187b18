"""Keeps one live worker and its recovery point; runs requests on it one at a time.

The state machine: a worker is live; after each request that may have changed
the namespace it is `dirty` until a frozen copy of it was made. When it dies, the
copy is thawed and becomes the live worker. Callers hold `turn` while they use
it, which is also the session's queue.
"""

import asyncio
import itertools
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
from grotto_runtime.tree import Tree
from grotto_runtime.zygote import Zygote
from grotto_wire import frames

FREEZE_S = 5.0
IDLE_SAMPLE_S = 0.5
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
    """Of the session so far."""

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
        tree: Tree,
    ) -> None:
        self.turn = asyncio.Lock()
        self.totals = Totals()
        self.layers: list[str] = []
        self.on_frame: Callable[[Any], None] = _ignore
        self._zygote = zygote
        self._reaper = reaper
        self._configure = configure
        self._keep_points = keep_points
        self.tree = tree
        self._ids = itertools.count(1)
        self._live: Incarnation | None = None
        self._frozen: Incarnation | None = None
        self._pristine = True
        self._dirty = False
        self._lost = False
        self._notes: list[str] = []
        self._watch: asyncio.Task[None] | None = None
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

    def take_loss(self) -> bool:
        """Returns, once, whether a namespace was lost that no reply has told of."""
        lost, self._lost = self._lost, False
        return lost

    async def start(self) -> None:
        """Spawns an empty live worker."""
        self._live, self.layers = await self._zygote.spawn(self._configure, self._frame)
        self._pristine, self._dirty = True, False
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_memory())

    async def ready(self) -> Incarnation:
        """Returns the live worker with a recovery point behind it. Holds `turn`."""
        if self.worker.exited.done():
            recovered = await self.recover()
            self._lost = self._lost or recovered.state == pb.STATE_LOST
            self._notes.append(f"between two executions {recovered.note}")
        if self._dirty:
            await self._freeze()
        return self.worker

    async def request(
        self, message: Any, descriptors: tuple[int, ...], within_s: float
    ) -> frames.Done:
        """Has the live worker answer; raises RuntimeFailure. Holds `turn`.

        A worker that dies or overstays is replaced from its recovery point.
        """
        worker = await self.ready()
        reply = asyncio.ensure_future(worker.channel.request(message, descriptors))
        done, _ = await asyncio.wait(
            {reply, worker.exited}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
        )
        answer = reply.result() if reply in done and reply.exception() is None else None
        if isinstance(answer, frames.Done):
            return answer
        if isinstance(answer, frames.Failed):
            reason = FROM_WORKER.get(answer.reason, errors_pb2.ERROR_REASON_INTERNAL)
            raise RuntimeFailure(reason, answer.message[:2000], answer.hint[:1000])
        reply.cancel()
        recovered = await self.recover()
        self._lost = self._lost or recovered.state == pb.STATE_LOST
        raise _unfinished(not done, within_s, recovered)

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
        self.tree.end()
        frozen, self._frozen, self.tree.frozen_pid = self._frozen, None, 0
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
        dead.drain()
        dead.close()
        return ended

    async def reset(self) -> None:
        """Goes on with an empty namespace. Holds `turn`."""
        dead = self.worker
        dead.kill()
        await self._buried(dead)
        self._drop_frozen()
        self.tree.end()
        self._lost = False
        await self.start()

    def close(self) -> None:
        for task in (self._freezing, self._watch):
            if task is not None:
                task.cancel()
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
            if copy.channel.peer_pid == self.worker.pid:
                raise ChannelClosed  # the worker itself claims to be its copy
        except (TimeoutError, ChannelClosed):
            copy.close()
            self._drop_frozen()  # it is older than what the next failure should go back to
            self._notes.append("no recovery point could be taken before this execution")
            return
        copy.born()
        self._drop_frozen()
        self._frozen, self.tree.frozen_pid = copy, copy.pid

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
            self._frozen, self.tree.frozen_pid = None, 0

    async def _watch_memory(self) -> None:
        """Ends the worker whose processes take more than their share while nothing executes."""
        while True:
            await asyncio.sleep(IDLE_SAMPLE_S)
            held, _ = self.tree.held()
            self.totals.peak_bytes = max(self.totals.peak_bytes, held)
            limit = self._configure.memory_bytes
            if held > limit and not self.worker.exited.done():
                self._notes.append(f"memory: it held {held} bytes, the limit is {limit}")
                self.worker.kill()
                self.tree.end()

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
