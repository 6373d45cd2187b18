"""The reading end of a worker's output: what an execution gets, and what nobody gets."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from grotto_runtime import pipes
from grotto_runtime.pipes import READ_BYTES, OutputPipe

TIMEOUT_S = 10.0


@pytest.fixture
async def pipe() -> AsyncIterator[OutputPipe]:
    pipe = OutputPipe()
    pipe.start()
    yield pipe
    pipe.close()


class Sink:
    """Collects what arrives."""

    def __init__(self) -> None:
        self.data = b""
        self._more = asyncio.Event()

    def __call__(self, data: bytes) -> None:
        self.data += data
        self._more.set()

    async def holds(self, wanted: bytes) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while self.data != wanted:
                self._more.clear()
                await self._more.wait()


async def test_a_sink_gets_what_comes_while_it_is_attached(pipe):
    sink = Sink()
    os.write(pipe.writer, b"before")
    pipe.attach(sink)
    os.write(pipe.writer, b"one ")
    await sink.holds(b"one ")
    os.write(pipe.writer, b"two")
    await sink.holds(b"one two")
    pipe.attach(None)
    os.write(pipe.writer, b"after")
    pipe.drain()
    assert sink.data == b"one two"


async def test_the_last_output_is_there_after_a_drain(pipe):
    sink = Sink()
    pipe.attach(sink)
    os.write(pipe.writer, b"last")
    pipe.drain()
    assert sink.data == b"last"


async def test_a_sink_that_comes_while_reading_rests_gets_its_output(pipe, monkeypatch):
    monkeypatch.setattr(pipes, "REST_S", 1000.0)
    os.write(pipe.writer, b"nobody's")
    async with asyncio.timeout(TIMEOUT_S):
        while pipe._rest is None:
            await asyncio.sleep(0)
    sink = Sink()
    os.write(pipe.writer, b"nobody's either")
    pipe.attach(sink)
    os.write(pipe.writer, b"mine")
    await sink.holds(b"mine")


async def test_nobodys_output_is_read_once_a_rest(pipe, monkeypatch):
    """Control arm: with a sink, all of it is read while the loop turns."""
    monkeypatch.setattr(pipes, "REST_S", 1000.0)
    os.set_blocking(pipe.writer, False)
    for sink, read_all in ((None, False), (Sink(), True)):
        pipe.attach(sink)
        for _ in range(3):
            os.write(pipe.writer, b"x" * 100)
            for _ in range(5):
                await asyncio.sleep(0)
        assert (pipe._rest is None) is read_all
        left = os.read(pipe._reader, READ_BYTES) if not read_all else b""
        assert len(left) == (0 if read_all else 200)
        assert sink is None or len(sink.data) == 300


async def test_a_writer_of_nobodys_output_goes_on(pipe):
    writing = asyncio.to_thread(os.write, pipe.writer, b"x" * (4 * READ_BYTES))
    assert await asyncio.wait_for(writing, TIMEOUT_S) == 4 * READ_BYTES


@pytest.mark.parametrize("sink", [None, Sink])
async def test_the_end_of_the_output_ends_the_reading(pipe, sink):
    pipe.attach(sink and sink())
    os.write(pipe.writer, b"x")
    pipe.handed_over()
    async with asyncio.timeout(TIMEOUT_S):
        while pipe._flowing:
            await asyncio.sleep(0)
    pipe.drain()
    pipe.attach(None)


async def test_a_writer_that_never_stops_does_not_hold_up_a_sink(pipe):
    child = await asyncio.create_subprocess_exec("yes", stdout=pipe.writer)
    sink = Sink()
    try:
        pipe.attach(sink)
        async with asyncio.timeout(TIMEOUT_S):
            while not sink.data:
                await asyncio.sleep(0)
    finally:
        child.kill()
        await child.wait()
