"""Running code in a session: execute, stream, attach again, interrupt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from grotto._bound import CONTROL_DEADLINE_S, Bound
from grotto._events import Recorder
from grotto._execution import Event, Execution
from grotto._requests import check_execution_id, check_source, execution_limits
from grotto.errors import UnavailableError
from grotto.limits import Limits
from grotto_proto.v1 import execution_pb2, sessions_pb2


class Executions(Bound):
    """The part of `AsyncSession` that runs code."""

    async def execute(
        self,
        code: str,
        timeout: float | None = None,  # noqa: ASYNC109 - of the execution, not of this call
        *,
        limits: Limits | None = None,
        execution_id: str | None = None,
    ) -> Execution:
        """Runs code and returns what became of it; see `grotto.Session.execute`."""
        recorder, events = self._start(code, timeout, limits, execution_id)
        async for _ in events:
            pass
        return _finished(recorder)

    async def stream(
        self,
        code: str,
        timeout: float | None = None,  # noqa: ASYNC109 - of the execution, not of this call
        *,
        limits: Limits | None = None,
        execution_id: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Runs code and yields its events; see `grotto.Session.stream`."""
        _, events = self._start(code, timeout, limits, execution_id)
        async with aclosing(events):
            async for event in events:
                yield event

    async def execution(self, execution_id: str) -> Execution:
        """Waits for an execution that was started before and returns it."""
        recorder = Recorder(check_execution_id(execution_id))
        stub = self._transport.stub
        request = sessions_pb2.WatchExecutionRequest(session_id=self.id, execution_id=execution_id)
        events = self._follow(
            lambda: self._transport.stream(stub.WatchExecution, request), recorder
        )
        async for _ in events:
            pass
        return _finished(recorder)

    async def interrupt(self) -> bool:
        """Interrupts what runs now; returns whether anything did."""
        request = sessions_pb2.InterruptRequest(session_id=self.id)
        reply = await self._transport.once(
            self._transport.stub.Interrupt, request, deadline_s=CONTROL_DEADLINE_S
        )
        return reply.interrupted

    def _start(
        self, code: str, timeout: float | None, limits: Limits | None, execution_id: str | None
    ) -> tuple[Recorder, AsyncGenerator[Event, None]]:
        chosen = check_execution_id(execution_id or self._transport.new_id())
        request = sessions_pb2.ExecuteRequest(
            session_id=self.id,
            spec=execution_pb2.ExecutionSpec(
                execution_id=chosen,
                source=check_source(code),
                limits=execution_limits(timeout, limits),
            ),
        )
        stub = self._transport.stub
        recorder = Recorder(chosen)
        # Repeating Execute is safe: the sandbox runs one id once.
        return recorder, self._follow(
            lambda: self._transport.stream(stub.Execute, request, self._turn), recorder
        )

    async def _follow(
        self,
        open_stream: Callable[[], AsyncGenerator[execution_pb2.EventBatch, None]],
        recorder: Recorder,
    ) -> AsyncGenerator[Event, None]:
        attempts = self._transport.attempts()
        while recorder.finished is None:
            try:
                async with aclosing(open_stream()) as batches:
                    async for batch in batches:
                        attempts.progress()
                        for event in recorder.feed(batch):
                            yield event
                if recorder.finished is None:
                    raise UnavailableError("The events of the execution ended before its end.")
            except UnavailableError as error:
                recorder.rewind()
                await attempts.again(error)


def _finished(recorder: Recorder) -> Execution:
    assert recorder.finished is not None
    return recorder.finished
