"""Runs one execution on the live worker under its limits.

The ladder when a limit is reached or the client interrupts: SIGINT, and after a
grace SIGKILL. Memory and process count over the limit are SIGKILL at once.
"""

import asyncio
import time
from dataclasses import dataclass

from grotto_proto.v1 import execution_pb2 as pb
from grotto_runtime import processes, verdict
from grotto_runtime.executions import Record
from grotto_runtime.incarnation import Incarnation
from grotto_runtime.supervisor import Supervisor
from grotto_wire import frames

SAMPLE_S = 0.05
INTERRUPT_GRACE_S = 2.0
SIGINT = 2


@dataclass(frozen=True)
class Bounds:
    """Of one execution: seconds and bytes; all set."""

    wall_s: float
    cpu_s: float
    output_bytes: int
    memory_bytes: int
    pids: int


class Run:
    """One execution under way. Made, awaited once, gone."""

    def __init__(self, supervisor: Supervisor, record: Record, bounds: Bounds) -> None:
        self._supervisor = supervisor
        self._record = record
        self._bounds = bounds
        self._ending = verdict.Ending()
        self._kill_at = float("inf")
        self._peak_bytes = 0
        self._started = 0.0
        self._cpu_before = 0.0
        self._tree_cpu_before = 0.0
        self._worker: Incarnation = supervisor.worker
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, source: str) -> pb.Finished:
        """Returns what became of it; the record has the events. Holds the supervisor's turn."""
        worker = self._worker = await self._supervisor.ready()
        request = frames.Execute(self._supervisor.next_id(), source, self._bounds.output_bytes)
        self._attach(request.id)
        self._started = time.monotonic()
        self._cpu_before = processes.cpu_s(worker.pid)
        self._tree_cpu_before = self._supervisor.tree.cpu_s()
        self._tick()
        try:
            reply = await self._reply_or_death(worker, request)
        finally:
            self._detach()
        finished = await self._died() if reply is None else self._lived(reply)
        self._supervisor.totals.executions += 1
        return finished

    def interrupt(self) -> None:
        """The client asked for it to end."""
        self._step_in(pb.OUTCOME_INTERRUPTED, "it was interrupted")

    # ---- events of the worker ----

    def _attach(self, request_id: int) -> None:
        def on_frame(message: object) -> None:
            if isinstance(message, frames.Display) and message.id == request_id:
                self._record.display(message.data, False)

        self._supervisor.on_frame = on_frame
        self._worker.stdout.attach(self._record.stdout)
        self._worker.stderr.attach(self._record.stderr)

    def _detach(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._worker.drain()
        self._worker.stdout.attach(None)
        self._worker.stderr.attach(None)
        self._supervisor.on_frame = lambda message: None

    async def _reply_or_death(
        self, worker: Incarnation, request: frames.Execute
    ) -> frames.Executed | None:
        """Returns the worker's reply, or None when it died first or broke the protocol."""
        # A task: a worker that does not read must not keep us from seeing it die.
        reply = asyncio.ensure_future(worker.channel.request(request))
        await asyncio.wait({reply, worker.exited}, return_when=asyncio.FIRST_COMPLETED)
        if reply.done() and reply.exception() is None:
            executed = reply.result()
            if isinstance(executed, frames.Executed):
                return executed
        reply.cancel()
        worker.kill()  # it died, closed its channel or answered nonsense
        await worker.exited
        return None

    # ---- limits ----

    def _tick(self) -> None:
        """Looks at the clock and the tree, and comes again."""
        now = time.monotonic()
        if now >= self._kill_at:
            self._worker.kill()
            return
        if now - self._started >= self._bounds.wall_s:
            self._step_in(pb.OUTCOME_TIMED_OUT, f"over {self._bounds.wall_s:g} s of wall time")
        if now > self._started + SAMPLE_S / 2:
            self._sample()
        until = min(SAMPLE_S, max(0.0, self._started + self._bounds.wall_s - now) or SAMPLE_S)
        self._timer = asyncio.get_running_loop().call_later(until, self._tick)

    def _sample(self) -> None:
        held, count = self._supervisor.tree.held()
        self._peak_bytes = max(self._peak_bytes, held)
        if self._cpu_used() >= self._bounds.cpu_s:
            self._step_in(pb.OUTCOME_TIMED_OUT, f"over {self._bounds.cpu_s:g} s of CPU time")
        if held > self._bounds.memory_bytes:
            self._end_now(f"memory: it held {held} bytes, the limit is {self._bounds.memory_bytes}")
        elif count > self._bounds.pids:
            self._end_now(f"processes: it had {count}, the limit is {self._bounds.pids}")

    def _step_in(self, outcome: "pb.Outcome.ValueType", note: str) -> None:
        if self._ending.outcome == pb.OUTCOME_UNSPECIFIED:
            self._ending = verdict.Ending(outcome, note)
            self._kill_at = time.monotonic() + INTERRUPT_GRACE_S
            processes.kill(self._worker.pid, SIGINT)

    def _end_now(self, note: str) -> None:
        self._ending = verdict.Ending(pb.OUTCOME_KILLED, note)
        self._worker.kill()

    # ---- the outcome ----

    def _cpu_used(self) -> float:
        """CPU seconds; those of other processes are looked at when there was time for any."""
        own = processes.cpu_s(self._worker.pid) - self._cpu_before
        if time.monotonic() - self._started < SAMPLE_S / 2:
            return max(0.0, own)
        return max(own, self._supervisor.tree.cpu_s() - self._tree_cpu_before)

    def _lived(self, reply: frames.Executed) -> pb.Finished:
        outcome = verdict.of_reply(reply, self._ending)
        self._record.dropped_bytes += max(0, min(reply.dropped_bytes, 2**62))
        if reply.result is not None:
            self._record.display(reply.result, True)
        memory = processes.memory(self._worker.pid)
        # The kernel's high-water mark is exact when this execution raised it.
        exact = memory.peak_bytes if memory.peak_bytes > self._worker.peak_bytes else 0
        self._worker.peak_bytes = memory.peak_bytes
        self._peak_bytes = max(self._peak_bytes, memory.current_bytes, exact)
        usage = self._usage(self._cpu_used())
        self._supervisor.changed()
        lost = self._supervisor.take_loss()
        notes = self._supervisor.take_notes()
        if outcome in (pb.OUTCOME_TIMED_OUT, pb.OUTCOME_INTERRUPTED):
            notes.append(self._ending.note)
        return pb.Finished(
            outcome=outcome,
            state=pb.STATE_LOST if lost else pb.STATE_KEPT,
            state_note="; ".join(notes),
            error=verdict.tenant_error(reply),
            usage=usage,
        )

    async def _died(self) -> pb.Finished:
        wall_s = time.monotonic() - self._started
        recovered = await self._supervisor.recover()
        used = self._supervisor.tree.cpu_s() - self._tree_cpu_before
        lost = self._supervisor.take_loss() or recovered.state == pb.STATE_LOST
        notes = [*self._supervisor.take_notes(), self._ending.note, recovered.note]
        finished = pb.Finished(
            outcome=verdict.of_death(self._ending),
            state=pb.STATE_LOST if lost else pb.STATE_RESTORED,
            state_note="; ".join(note for note in notes if note),
            usage=self._usage(max(0.0, used)),
        )
        finished.usage.wall_s = wall_s
        return finished

    def _usage(self, cpu_s: float) -> pb.ExecutionUsage:
        self._supervisor.totals.peak_bytes = max(
            self._supervisor.totals.peak_bytes, self._peak_bytes
        )
        return pb.ExecutionUsage(
            wall_s=time.monotonic() - self._started,
            cpu_s=cpu_s,
            peak_memory_bytes=self._peak_bytes,
        )
