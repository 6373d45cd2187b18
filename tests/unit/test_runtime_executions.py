"""Records of executions: bounded, replayable, deduplicated; and outcomes as a table."""

import asyncio

import pytest

from grotto_proto.v1 import execution_pb2 as pb
from grotto_runtime import verdict
from grotto_runtime.errors import RuntimeFailure
from grotto_runtime.executions import EVENT_BYTES, MAX_REMEMBERED, Record, Records
from grotto_wire.frames import Executed, Problem


async def events(record):
    return [event async for batch in record.follow() for event in batch.events]


def finished(record, outcome=pb.OUTCOME_OK):
    record.finish(pb.Finished(outcome=outcome, state=pb.STATE_KEPT))


async def test_every_follower_gets_every_event_from_the_start():
    record = Record("e", "x", 1000)
    early = asyncio.create_task(events(record))
    await asyncio.sleep(0)
    record.stdout(b"one")
    await asyncio.sleep(0)
    record.stdout(b" two")
    record.display({"text/plain": b"3"}, True)
    record.stderr(b"oh")
    finished(record)
    for seen in (await early, await events(record)):
        assert b"".join(event.stdout for event in seen) == b"one two"
        assert [e.WhichOneof("kind") for e in seen][-3:] == ["result", "stderr", "finished"]


async def test_output_over_the_limit_is_dropped_and_counted():
    record = Record("e", "x", 10)
    record.stdout(b"x" * 7)
    record.stderr(b"y" * 7)
    record.stdout(b"z" * 7)
    record.display({"text/plain": b"12345"}, False)
    finished(record)
    seen = await events(record)
    assert [len(e.stdout or e.stderr) for e in seen[:-1]] == [7, 3]
    assert seen[-1].finished.dropped_bytes == 4 + 7 + (5 + EVENT_BYTES)


async def test_a_million_tiny_writes_are_a_few_events():
    record = Record("e", "x", 10_000_000)
    for _ in range(100_000):
        record.stdout(b"x")
    finished(record)
    assert len(await events(record)) < 10


async def test_a_follower_that_never_reads_holds_nobody_up():
    record = Record("e", "x", 1000)
    slow = record.follow()
    record.stdout(b"a")
    await anext(slow)
    for _ in range(10_000):
        record.stdout(b"b")
    finished(record)
    rest = [event async for batch in slow for event in batch.events]
    assert sum(len(event.stdout) for event in rest) == 999


def test_the_same_id_and_source_is_the_same_record():
    records = Records()
    first, new = records.open("e", "x", 10)
    again, also_new = records.open("e", "x", 10)
    assert (first is again, new, also_new) == (True, True, False)


def test_the_same_id_with_other_source_is_refused():
    records = Records()
    records.open("e", "x", 10)
    with pytest.raises(RuntimeFailure, match="other source"):
        records.open("e", "y", 10)


def test_the_last_outcomes_are_kept_and_older_ones_forgotten():
    records = Records()
    for number in range(MAX_REMEMBERED + 10):
        record, _ = records.open(f"e{number}", "x", 10)
        finished(record)
    records.open("last", "x", 10)
    records.find(f"e{MAX_REMEMBERED + 9}")
    with pytest.raises(RuntimeFailure, match="knows no execution"):
        records.find("e0")


def reply(problem=None, interrupted=False):
    return Executed(1, problem, None, interrupted, 0)


PROBLEM = Problem("ValueError", "no", "", 1)


@pytest.mark.parametrize(
    ("ending", "answer", "outcome"),
    [
        (pb.OUTCOME_UNSPECIFIED, reply(), pb.OUTCOME_OK),
        (pb.OUTCOME_UNSPECIFIED, reply(PROBLEM), pb.OUTCOME_RAISED),
        # tenant code cannot claim to have been interrupted
        (pb.OUTCOME_UNSPECIFIED, reply(PROBLEM, True), pb.OUTCOME_RAISED),
        (pb.OUTCOME_TIMED_OUT, reply(PROBLEM, True), pb.OUTCOME_TIMED_OUT),
        # it caught the interrupt and went on to the end: over its time all the same
        (pb.OUTCOME_TIMED_OUT, reply(None, True), pb.OUTCOME_TIMED_OUT),
        (pb.OUTCOME_INTERRUPTED, reply(PROBLEM, True), pb.OUTCOME_INTERRUPTED),
        # the signal came after its last statement
        (pb.OUTCOME_INTERRUPTED, reply(), pb.OUTCOME_OK),
    ],
)
def test_the_outcome_of_a_worker_that_lived(ending, answer, outcome):
    assert verdict.of_reply(answer, verdict.Ending(ending)) == outcome


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (pb.OUTCOME_UNSPECIFIED, pb.OUTCOME_KILLED),
        (pb.OUTCOME_TIMED_OUT, pb.OUTCOME_TIMED_OUT),
        (pb.OUTCOME_INTERRUPTED, pb.OUTCOME_INTERRUPTED),
        (pb.OUTCOME_KILLED, pb.OUTCOME_KILLED),
    ],
)
def test_the_outcome_of_a_worker_that_died(ending, outcome):
    assert verdict.of_death(verdict.Ending(ending)) == outcome
