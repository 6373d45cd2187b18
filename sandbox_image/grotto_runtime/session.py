"""One session in its sandbox: what a bound daemon can be asked, checked and queued.

Everything that touches the namespace goes through the supervisor's `turn`, in
the order it came; interrupt, usage and following an execution do not wait.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from grotto_policy import Violation
from grotto_proto.v1 import errors_pb2, runtime_pb2, sessions_pb2, values_pb2
from grotto_proto.v1 import execution_pb2 as pb
from grotto_runtime import variables
from grotto_runtime.budget import Budget
from grotto_runtime.checking import Checker, CheckerFailed
from grotto_runtime.errors import RuntimeFailure, invalid
from grotto_runtime.executions import Record, Records
from grotto_runtime.files import Workspace
from grotto_runtime.memfd import SealedMemory
from grotto_runtime.runner import Bounds, Run
from grotto_runtime.supervisor import Supervisor
from grotto_wire import frames, names

MAX_QUEUED = 256
MAX_SOURCE_BYTES = 256 * 1024
MAX_NAMES = 1000
STALLED_S = 60.0
_GIVEN_UP = pb.Finished(
    outcome=pb.OUTCOME_KILLED,
    state=pb.STATE_LOST,
    state_note="the sandbox could not go on; close the session",
)


class Session:
    """The bound session of this sandbox."""

    def __init__(
        self,
        bind: runtime_pb2.BindRequest,
        supervisor: Supervisor,
        checker: Checker,
        workspace: Workspace,
    ) -> None:
        self.bind = bind
        self.supervisor = supervisor
        self.workspace = workspace
        self._checker = checker
        self._records = Records()
        self._queued = 0
        self._in_transit = Budget(bind.limits.memory_bytes // 2)
        self._current: Run | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- executions ----

    def submit(self, spec: pb.ExecutionSpec) -> Record:
        """Queues an execution, or finds the one with that id; returns its record."""
        bounds = self._bounds(spec)
        record, new = self._records.open(spec.execution_id, spec.source, bounds.output_bytes)
        if new:
            try:
                self._enter()
            except RuntimeFailure:
                self._records.discard(record)
                raise
            task = asyncio.create_task(self._execute(record, spec.source, bounds))
            self._tasks.add(task)
            task.add_done_callback(self._executed)
        return record

    def find(self, execution_id: str) -> Record:
        return self._records.find(execution_id)

    def interrupt(self) -> bool:
        """Interrupts the running execution; False when none is."""
        if self._current is None:
            return False
        self._current.interrupt()
        return True

    def _executed(self, task: "asyncio.Task[None]") -> None:
        self._queued -= 1
        self._tasks.discard(task)

    async def _execute(self, record: Record, source: str, bounds: Bounds) -> None:
        async with self.supervisor.turn:
            finished = _GIVEN_UP
            try:
                finished = await self._judged(record, source, bounds)
            finally:
                self._current = None
                record.finish(finished)

    async def _judged(self, record: Record, source: str, bounds: Bounds) -> pb.Finished:
        try:
            violations = await self._checker.check(source, self.bind.policy)
        except CheckerFailed as error:
            violations = [_unchecked(str(error))]
        if violations:
            return pb.Finished(
                outcome=pb.OUTCOME_REFUSED,
                state=pb.STATE_KEPT,
                violations=[pb.Violation(**asdict(violation)) for violation in violations],
            )
        self._current = Run(self.supervisor, record, bounds)
        return await self._current.run(source)

    def _bounds(self, spec: pb.ExecutionSpec) -> Bounds:
        if not names.EXECUTION_ID.fullmatch(spec.execution_id):
            raise invalid("an execution id is 1 to 64 letters, digits, '-' or '_'")
        size = len(spec.source.encode())
        if size > MAX_SOURCE_BYTES:
            raise invalid(
                f"the source has {size} bytes, the limit is {MAX_SOURCE_BYTES}",
                "inject data as a value, or split the code",
            )
        for field in ("wall_s", "cpu_s"):
            value = getattr(spec.limits, field)
            if not math.isfinite(value) or value < 0:
                raise invalid(f"limits.{field} is {value}; give a number of seconds over 0")
        session = self.bind.limits
        return Bounds(
            wall_s=_lower(spec.limits.wall_s, session.wall_s),
            cpu_s=_lower(spec.limits.cpu_s, session.cpu_s),
            output_bytes=int(_lower(spec.limits.output_bytes, session.output_bytes)),
            memory_bytes=session.memory_bytes,
            pids=session.pids,
        )

    # ---- values ----

    async def put(self, spec: values_pb2.PutSpec, chunks: AsyncIterator[bytes]) -> None:
        """Binds the names to the values of the envelope that follows, all or none."""
        _check_names(spec.names)
        self._check_size(spec.size_bytes)
        with self._place():
            async with self._in_transit.hold(spec.size_bytes):
                memory = SealedMemory(spec.size_bytes)
                try:
                    await _fill(memory, chunks)
                    async with self.supervisor.turn:
                        await self._put(spec, memory)
                finally:
                    memory.close()

    async def _put(self, spec: values_pb2.PutSpec, memory: SealedMemory) -> None:
        message = frames.Put(
            self.supervisor.next_id(),
            list(spec.names),
            {name: text[:2000] for name, text in spec.descriptions.items()},
            spec.size_bytes,
        )
        await self._ask(message, (memory.descriptor,))
        self.supervisor.changed()

    async def get(self, spec: values_pb2.GetSpec) -> AsyncGenerator[values_pb2.GetValueChunk, None]:
        """Yields the size, then the envelope of a tuple of the named values."""
        for name in spec.names:
            _check(names.check_readable, name)
        _check_count(spec.names)
        limit = int(_lower(spec.max_bytes, self.bind.limits.value_bytes))
        with self._place():
            memory = SealedMemory(limit)
            try:
                async with self.supervisor.turn, contextlib.AsyncExitStack() as stack:
                    message = frames.Get(self.supervisor.next_id(), list(spec.names), limit)
                    size_bytes = (await self._ask(message, (memory.descriptor,))).size_bytes
                    if not 0 <= size_bytes <= limit:
                        raise _not_as_agreed()
                    await stack.enter_async_context(self._in_transit.hold(size_bytes))
                    held = stack.pop_all()
                async with held:
                    yield values_pb2.GetValueChunk(size_bytes=size_bytes)
                    for chunk in memory.chunks(size_bytes):
                        yield values_pb2.GetValueChunk(chunk=chunk)
                        size_bytes -= len(chunk)
                    if size_bytes:
                        raise _not_as_agreed()
            finally:
                memory.reclaim()

    async def describe(self) -> values_pb2.Variables:
        with self._place():
            async with self.supervisor.turn:
                done = await self._ask(frames.Describe(self.supervisor.next_id()), ())
        return variables.reply(done.variables)

    async def delete(self, spec: values_pb2.DeleteSpec) -> None:
        _check_names(spec.names)
        with self._place():
            async with self.supervisor.turn:
                await self._ask(frames.Delete(self.supervisor.next_id(), list(spec.names)), ())
                self.supervisor.changed()

    async def reset(self) -> None:
        with self._place():
            async with self.supervisor.turn:
                await self.supervisor.reset()

    # ---- what does not wait ----

    def usage(self) -> sessions_pb2.Usage:
        held, count = self.supervisor.tree.held_with_copy()
        totals = self.supervisor.totals
        return sessions_pb2.Usage(
            cpu_s=self.supervisor.tree.cpu_s(),
            memory_bytes=held,
            peak_memory_bytes=max(totals.peak_bytes, held),
            executions=totals.executions,
            processes=count,
            worker_pid=self.supervisor.worker.pid,
        )

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.supervisor.close()

    async def _ask(self, message: Any, descriptors: tuple[int, ...]) -> Any:
        return await self.supervisor.request(message, descriptors, self.bind.limits.wall_s)

    def _check_size(self, size_bytes: int) -> None:
        limit = self.bind.limits.value_bytes
        if size_bytes > limit:
            raise RuntimeFailure(
                errors_pb2.ERROR_REASON_VALUE_TOO_LARGE,
                f"the value takes {size_bytes} bytes, the limit is {limit}",
                "raise limits.value_bytes of the session, or upload a file",
            )

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place in the queue for as long as the block lasts."""
        self._enter()
        try:
            yield
        finally:
            self._queued -= 1

    def _enter(self) -> None:
        """Takes a place in the queue; refused when it is full."""
        if self._queued >= MAX_QUEUED:
            raise RuntimeFailure(
                errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
                f"the session has {MAX_QUEUED} requests waiting",
                "wait for some of them to finish",
            )
        self._queued += 1


def _unchecked(why: str) -> Violation:
    """Nothing runs unchecked, whatever has befallen the checker."""
    return Violation(
        layer="ast",
        rule="unchecked",
        what="the source",
        line=1,
        column=1,
        why=f"It could not be checked: {why}.",
        hint="Try again; if it stays so, close the session and open a new one.",
    )


def _not_as_agreed() -> RuntimeFailure:
    return invalid("the sandbox did not hand over the value as agreed")


async def _in_time(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields the chunks of a sender that goes on sending; its memory is others' meanwhile."""
    arriving = aiter(chunks)
    while True:
        try:
            yield await asyncio.wait_for(anext(arriving), STALLED_S)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise RuntimeFailure(
                errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
                f"no part of the value came for {STALLED_S:g} s",
                "nothing was bound; send it again",
            ) from error


async def _fill(memory: SealedMemory, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in _in_time(chunks):
        if len(chunk) > memory.room_bytes:
            raise invalid("the value is longer than announced")
        memory.append(chunk)
    if memory.room_bytes:
        raise invalid(
            f"the stream ended {memory.room_bytes} bytes before the announced end",
            "nothing was bound; send it again",
        )
    if not memory.seal():
        raise invalid("the value could not be sealed")


def _lower(asked: float, limit: float) -> float:
    return min(asked, limit) if asked > 0 else limit


def _check_names(given: Any) -> None:
    _check_count(given)
    for name in given:
        _check(names.check_name, name)


def _check_count(given: Any) -> None:
    if not 1 <= len(given) <= MAX_NAMES or len(set(given)) != len(given):
        raise invalid(f"give 1 to {MAX_NAMES} different names")


def _check(rule: Any, name: str) -> None:
    try:
        rule(name)
    except names.InvalidName as error:
        raise invalid(str(error)) from error
