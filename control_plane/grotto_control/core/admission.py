"""How many calls a tenant may have running, and ending those of a revoked key."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from grotto_control.core.auth import Identity
from grotto_control.model.errors import QuotaExceeded


@dataclass(frozen=True, slots=True)
class CallBounds:
    """Per tenant. A transfer holds up to a few MiB in this process, hence its own bound."""

    calls: int = 512
    transfers: int = 32


class Admission:
    """Counts running calls by tenant and knows them by key."""

    def __init__(self, bounds: CallBounds) -> None:
        self._bounds = bounds
        self._calls: Counter[str] = Counter()
        self._transfers: Counter[str] = Counter()
        self._tasks: dict[str, set[asyncio.Task[object]]] = {}
        self._revoked: set[asyncio.Task[object]] = set()

    @contextmanager
    def enter(self, identity: Identity, is_transfer: bool) -> Iterator[None]:
        """Holds a place for the current task's call; raises QuotaExceeded if there is none."""
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
        self._tasks.setdefault(identity.key_id, set()).add(task)
        try:
            yield
        finally:
            self._leave(counter, identity, task)

    def revoke(self, key_ids: Set[str]) -> None:
        """Cancels the running calls of these keys."""
        for key_id in key_ids:
            for task in self._tasks.get(key_id, set()):
                self._revoked.add(task)
                task.cancel()

    def take_revoked(self, task: asyncio.Task[object]) -> bool:
        """Returns, once, whether it was `revoke` that cancelled this task."""
        was_revoked = task in self._revoked
        self._revoked.discard(task)
        return was_revoked

    def _leave(self, counter: Counter[str], identity: Identity, task: asyncio.Task[object]) -> None:
        counter[identity.tenant] -= 1
        if not counter[identity.tenant]:
            del counter[identity.tenant]
        tasks = self._tasks[identity.key_id]
        tasks.discard(task)
        if not tasks:
            del self._tasks[identity.key_id]
