"""One background event loop, and the way into it from blocking code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

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
        future = self._submit(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise GrottoError("The client was closed during this call.") from error
        except KeyboardInterrupt:
            if on_interrupt is not None:
                self._end_well(future, on_interrupt)
            future.cancel()
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
        if self._loop.is_closed() or os.getpid() != self._pid:
            return
        with contextlib.suppress(GrottoError):
            self.call(_drain())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        problem = self._problem()
        if problem:
            work.close()
            raise GrottoError(problem)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _problem(self) -> str:
        if os.getpid() != self._pid:
            return "This client was made before a fork; make a new one in the child process."
        if self._loop.is_closed():
            return "This client is closed; make a new one."
        if threading.current_thread() is self._thread:
            return "The blocking client cannot be called from its own callbacks."
        return ""

    def _end_well(
        self,
        future: concurrent.futures.Future[T],
        on_interrupt: Callable[[], Coroutine[Any, Any, Any]],
    ) -> None:
        with contextlib.suppress(Exception):
            self._submit(on_interrupt()).result(INTERRUPT_GRACE_S)
            concurrent.futures.wait([future], INTERRUPT_GRACE_S)


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
