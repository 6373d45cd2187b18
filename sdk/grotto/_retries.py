"""How calls that are safe to repeat are repeated: pauses, patience, and a budget per client.

Two bounds: each call gives up after a time and a number of tries; and all calls of a client
draw their repetitions from one bucket, so that a failing server meets a trickle, not a storm.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from grotto.errors import UnavailableError

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a call that is safe to repeat goes on while the server is away.

    A server that never answered is given `first_contact_s` only.
    """

    budget_s: float = 30.0
    first_contact_s: float = 3.0
    first_s: float = 0.05
    ceiling_s: float = 1.0
    max_repetitions: int = 40
    burst: float = 40.0
    """How many repetitions a client may make at once,"""
    refill_per_s: float = 10.0
    """how many more each second,"""
    refill_per_success: float = 0.1
    """and for each call that succeeds."""


class RetryBudget:
    """The bucket of one client; a repetition takes a token out of it."""

    def __init__(self, backoff: Backoff, clock: Clock) -> None:
        self._backoff = backoff
        self._clock = clock
        self._tokens = backoff.burst
        self._filled_at = clock()

    def earn(self) -> None:
        """A call succeeded."""
        self._add(self._backoff.refill_per_success)

    def take(self) -> float:
        """Takes a token and returns 0, or returns the seconds until there is one."""
        now = self._clock()
        self._add((now - self._filled_at) * self._backoff.refill_per_s)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._backoff.refill_per_s

    def _add(self, tokens: float) -> None:
        self._tokens = min(self._tokens + tokens, self._backoff.burst)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Time and chance, which tests replace."""

    clock: Clock = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = field(default=random.random)
    """Uniform in [0, 1)."""


async def _no_verdict() -> str | None:
    return None


class Retries:
    """What all calls of one client share about repetition.

    `gone` returns a sentence once the server can never come back; `diagnose` one when it
    can never be reached like this.
    """

    def __init__(
        self,
        backoff: Backoff,
        waiting: Waiting,
        gone: Callable[[], str | None] = lambda: None,
        diagnose: Callable[[], Awaitable[str | None]] = _no_verdict,
    ) -> None:
        self.backoff = backoff
        self.waiting = waiting
        self.gone = gone
        self.diagnose = diagnose
        self.budget = RetryBudget(backoff, waiting.clock)
        self.was_reached = False

    def succeeded(self) -> None:
        """A call came back well."""
        self.was_reached = True
        self.budget.earn()

    def patience_s(self) -> float:
        """Returns how long an outage is waited out."""
        return self.backoff.budget_s if self.was_reached else self.backoff.first_contact_s

    async def hopeless(self) -> str | None:
        """Returns a sentence when waiting for the server is of no use."""
        if reason := self.gone():
            return reason
        return None if self.was_reached else await self.diagnose()


class Attempts:
    """The tries of one call: `again` waits, or raises when there is none left."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._pause_s = retries.backoff.first_s
        self._repetitions = 0
        self._give_up_at: float | None = None

    def progress(self) -> None:
        """The server answered: the next outage has the whole patience again."""
        self._give_up_at = None
        self._repetitions = 0
        self._pause_s = self._retries.backoff.first_s

    async def again(self, error: UnavailableError) -> None:
        """Waits before the next try; raises UnavailableError when there is none."""
        retries, waiting = self._retries, self._retries.waiting
        if self._give_up_at is None:
            self._give_up_at = waiting.clock() + retries.patience_s()
            if reason := await retries.hopeless():
                raise UnavailableError(reason, request_id=error.request_id) from error
        elif reason := retries.gone():
            raise UnavailableError(reason, request_id=error.request_id) from error
        self._repetitions += 1
        if self._repetitions > retries.backoff.max_repetitions:
            raise error
        await self._pause(self._pause_s * (0.5 + waiting.chance() / 2), error)
        self._pause_s = min(self._pause_s * 2, retries.backoff.ceiling_s)
        while wait_s := retries.budget.take():
            await self._pause(wait_s, error)

    async def _pause(self, pause_s: float, error: UnavailableError) -> None:
        assert self._give_up_at is not None
        if self._retries.waiting.clock() >= self._give_up_at:
            raise error
        await self._retries.waiting.sleep(pause_s)
