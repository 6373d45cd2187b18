"""Which calls may run: so many of a tenant, none of a revoked key, no new ones in a drain."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from grotto_control.core.auth import Identity, refusal
from grotto_control.model.errors import GrottoError, QuotaExceeded, Unavailable


@dataclass(frozen=True, slots=True)
class CallBounds:
    """Per tenant. A transfer holds up to a few MiB in this process, hence its own bound."""

    calls: int = 512
    transfers: int = 32
    call_s: float = 2 * 3600.0
    """How long one call may take when its client set no deadline, or a longer one."""


class Admission:
    """Counts running calls by tenant and knows them by key."""

    def __init__(self, bounds: CallBounds) -> None:
        self._bounds = bounds
        self.call_s = bounds.call_s
        self._calls: Counter[str] = Counter()
        self._transfers: Counter[str] = Counter()
        self._tasks: dict[str, set[asyncio.Task[object]]] = {}
        self._ended: dict[asyncio.Task[object], GrottoError] = {}
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def enter(self, identity: Identity, is_transfer: bool, is_ending: bool) -> Iterator[None]:
        """Holds a place for the current task's call.

        Raises QuotaExceeded if there is none, and Unavailable in a drain, in which only calls
        that end something (`is_ending`) are taken.
        """
        if self._draining and not is_ending:
            raise shutting_down()
        counter, bound, what = (
            (self._transfers, self._bounds.transfers, "transfers")
            if is_transfer
            else (self._calls, self._bounds.calls, "calls")
        )
        if counter[identity.tenant] >= bound:
            raise QuotaExceeded(
                f"this tenant has {bound} {what} running, as many as it may.",
                "wait for one of them to end.",
            )
        task = asyncio.current_task()
        assert task is not None
        counter[identity.tenant] += 1
        self._idle.clear()
        self._tasks.setdefault(identity.key_id, set()).add(task)
        try:
            yield
        finally:
            self._leave(counter, identity, task)

    def revoke(self, key_ids: Set[str]) -> None:
        """Cancels the running calls of these keys."""
        for key_id in key_ids:
            for task in self._tasks.get(key_id, set()):
                self._end(task, refusal())

    async def drain(self, grace_s: float) -> None:
        """Takes no new calls; returns when none runs, having ended those that outlast `grace_s`."""
        self._draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            for task in set().union(*self._tasks.values()):
                self._end(task, shutting_down())
            await self._idle.wait()

    def take_ended(self, task: asyncio.Task[object]) -> GrottoError | None:
        """Returns, once, why `revoke` or `drain` cancelled this task; None: they did not."""
        return self._ended.pop(task, None)

    def _end(self, task: asyncio.Task[object], why: GrottoError) -> None:
        self._ended[task] = why
        task.cancel()

    def _leave(self, counter: Counter[str], identity: Identity, task: asyncio.Task[object]) -> None:
        counter[identity.tenant] -= 1
        if not counter[identity.tenant]:
            del counter[identity.tenant]
        tasks = self._tasks[identity.key_id]
        tasks.discard(task)
        if not tasks:
            del self._tasks[identity.key_id]
        if not self._tasks:
            self._idle.set()


def shutting_down() -> Unavailable:
    """Returns the error for a call that a server at its end does not take, or go on with."""
    return Unavailable(
        "the server is shutting down.",
        "try again in a moment; an execution goes on and can be asked for by its id.",
    )
