"""One background event loop, and the way into it from blocking code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from grotto.errors import GrottoError

T = TypeVar("T")

INTERRUPT_GRACE_S = 10.0
"""How long Ctrl-C waits for the sandbox to interrupt the code, before it is passed on."""


class Portal:
    """Runs coroutines on its own thread's event loop; `close` ends the thread.

    Does not survive `fork()`, and says so instead of hanging.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._closing = False
        # A daemon thread: a client that was never closed must not keep the process alive.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="grotto-client", daemon=True
        )
        self._thread.start()

    def call(
        self,
        work: Coroutine[Any, Any, T],
        on_interrupt: Callable[[], Coroutine[Any, Any, Any]] | None = None,
    ) -> T:
        """Returns the coroutine's result.

        On KeyboardInterrupt the work is cancelled, after `on_interrupt` had its chance
        to end it in good order.
        """
        job = _Job(work)
        try:
            # Inside, for Ctrl-C may come at any moment, also while the job is handed over.
            with self._gate:
                self._check(work)
                self._loop.call_soon_threadsafe(job.start)
            return job.result.result()
        except concurrent.futures.CancelledError as error:
            raise GrottoError("The client was closed during this call.") from error
        except KeyboardInterrupt:
            try:
                if on_interrupt is not None:
                    self._end_well(job.result, on_interrupt)
            finally:
                self._loop.call_soon_threadsafe(job.cancel)
            raise

    def iterate(
        self,
        events: AsyncGenerator[T, None],
        on_interrupt: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Generator[T, None, None]:
        """Yields what the asynchronous generator yields; closes it when left early."""
        turn = asyncio.Lock()  # a cancelled step may still unwind when the generator is closed
        try:
            while True:
                try:
                    yield self.call(_next(events, turn), on_interrupt)
                except StopAsyncIteration:
                    return
        finally:
            with contextlib.suppress(GrottoError):
                self.call(_close(events, turn))

    def close(self) -> None:
        """Cancels what runs, stops the loop and joins its thread. Idempotent."""
        if os.getpid() != self._pid:
            return
        with self._gate:  # what was let in before is drained, and nothing comes after
            if self._closing:
                return
            self._closing = True
        asyncio.run_coroutine_threadsafe(_drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _check(self, work: Coroutine[Any, Any, Any]) -> None:
        if problem := self._problem():
            work.close()
            raise GrottoError(problem)

    def _problem(self) -> str:
        if os.getpid() != self._pid:
            return "This client was made before a fork; make a new one in the child process."
        if self._closing:
            return "This client is closed; make a new one."
        if threading.current_thread() is self._thread:
            return "The blocking client cannot be called from its own callbacks."
        return ""

    def _end_well(
        self,
        result: concurrent.futures.Future[T],
        on_interrupt: Callable[[], Coroutine[Any, Any, Any]],
    ) -> None:
        with contextlib.suppress(Exception):
            told = asyncio.run_coroutine_threadsafe(on_interrupt(), self._loop)
            told.result(INTERRUPT_GRACE_S)
            concurrent.futures.wait([result], INTERRUPT_GRACE_S)


class _Job(Generic[T]):
    """One coroutine for the loop; its `result` is waited for on another thread."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.result: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        """On the loop's thread."""
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._tell)

    def cancel(self) -> None:
        """On the loop's thread; also for a job that never got there."""
        if self._task is None:
            self._work.close()
        else:
            self._task.cancel()

    def _tell(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.result.cancel()
        elif error := task.exception():
            self.result.set_exception(error)
        else:
            self.result.set_result(task.result())


async def _next(events: AsyncGenerator[T, None], turn: asyncio.Lock) -> T:
    async with turn:
        return await anext(events)


async def _close(events: AsyncGenerator[T, None], turn: asyncio.Lock) -> None:
    async with turn:
        await events.aclose()


async def _drain() -> None:
    loop = asyncio.get_running_loop()
    others = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    with contextlib.suppress(RuntimeError):  # at interpreter exit no thread can be started
        await loop.shutdown_default_executor()
