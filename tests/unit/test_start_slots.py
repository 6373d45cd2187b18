"""Who gets a slot next: clients before the pool, each in the order they came."""

import asyncio

import pytest

from grotto_control.core.slots import StartSlots


class Starts:
    """Starts that hold their slot until they are told to end."""

    def __init__(self, slots: StartSlots) -> None:
        self._slots = slots
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, awaited: bool) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name, awaited))
        await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def _run(self, name: str, awaited: bool) -> None:
        async with self._slots.held(awaited):
            self.begun.append(name)
            await self.ends[name].wait()


async def test_what_a_client_waits_for_overtakes_the_pool() -> None:
    starts = Starts(StartSlots(1))
    for name, awaited in (("first", False), ("warm", False), ("ada", True), ("bob", True)):
        await starts.add(name, awaited)
    for name in ("first", "ada", "bob", "warm"):
        await starts.end(name)
    assert starts.begun == ["first", "ada", "bob", "warm"]


async def test_no_more_than_the_slots_run() -> None:
    starts = Starts(StartSlots(2))
    for name in "abc":
        await starts.add(name, awaited=True)
    assert starts.begun == ["a", "b"]
    await starts.end("b")
    assert starts.begun == ["a", "b", "c"]
    await starts.end("a")
    await starts.end("c")


async def test_a_cancelled_wait_keeps_no_slot() -> None:
    """Also when it is cancelled at the moment in which it gets one."""
    starts = Starts(StartSlots(1))
    for name in "abc":
        await starts.add(name, awaited=True)
    starts.tasks["b"].cancel()
    starts.ends["a"].set()
    await asyncio.gather(starts.tasks["a"], starts.tasks["b"], return_exceptions=True)
    await asyncio.sleep(0)
    assert starts.begun == ["a", "c"]
    starts.ends["c"].set()
    await starts.tasks["c"]
    await starts.add("d", awaited=True)
    assert starts.begun == ["a", "c", "d"]
    await starts.end("d")


async def test_patience_ends() -> None:
    slots = StartSlots(1)
    async with slots.held(awaited=False):
        with pytest.raises(TimeoutError):
            async with slots.held(awaited=True, patience_s=0.01):
                pass
    async with slots.held(awaited=True, patience_s=0.01):
        pass
