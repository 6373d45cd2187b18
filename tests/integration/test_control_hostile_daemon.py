"""A daemon that was taken over: whatever it answers, the client gets a sound error.

Each test starts from a daemon that behaves, which is the control arm.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.control import Client, World, reason_of, running, short_folder

from grotto_proto.v1 import errors_pb2, execution_pb2, sessions_pb2

INTERNAL = errors_pb2.ERROR_REASON_INTERNAL


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with short_folder() as folder, running(folder) as world:
        yield world


@pytest.fixture
async def ada(world: World) -> Client:
    return await world.client()


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"outcome": 77}, "outcome is not one we know"),
        ({"outcome": execution_pb2.OUTCOME_UNSPECIFIED}, "outcome is not one we know"),
        ({"no_outcome": True}, "without an outcome"),
        ({"goes_on": True}, "went on after the outcome"),
    ],
)
async def test_the_stream_of_an_execution_is_checked(
    world: World, ada: Client, faults: dict[str, Any], words: str
) -> None:
    session = await ada.create()
    assert await ada.run(session.id, "say fine", "control")
    for name, value in faults.items():
        setattr(world.backend.only.runtime.faults, name, value)
    reason, message = await reason_of(ada.execute(session.id, "say x"))
    assert reason == INTERNAL and words in message


async def test_an_endless_stream_is_cut_at_the_limit(world: World, ada: Client) -> None:
    session = await ada.create()
    world.backend.only.runtime.faults.endless = True
    reason, message = await reason_of(ada.execute(session.id, "say x"))
    assert reason == INTERNAL and "more output than" in message


@pytest.mark.parametrize(
    ("declared", "words"),
    [(2**63, "more bytes than were allowed"), (9, "more bytes than it declared"), (11, "fewer")],
)
async def test_the_size_of_a_value_is_what_was_declared(
    world: World, ada: Client, declared: int, words: str
) -> None:
    session = await ada.create()
    await ada.put(session.id, "x", b"0123456789")
    assert await ada.value(session.id, "x") == b"0123456789"
    world.backend.only.runtime.faults.declared_bytes = declared
    reason, message = await reason_of(ada.value(session.id, "x"))
    assert reason == INTERNAL and words in message


async def test_chunks_of_a_daemon_are_bounded(world: World, ada: Client) -> None:
    session = await ada.create()
    world.backend.only.runtime.values["x"] = b"v" * 3_000_000
    assert len(await ada.value(session.id, "x")) == 3_000_000
    world.backend.only.runtime.faults.chunk_bytes = 3_000_000
    reason, message = await reason_of(ada.value(session.id, "x"))
    assert reason == INTERNAL and "not a chunk" in message


async def test_a_message_over_the_limit_ends_the_call_only(world: World, ada: Client) -> None:
    session = await ada.create()
    world.backend.only.runtime.values["x"] = b"v" * 6_000_000
    world.backend.only.runtime.faults.chunk_bytes = 6_000_000
    reason, message = await reason_of(ada.value(session.id, "x"))
    assert reason == INTERNAL and "RESOURCE_EXHAUSTED" in message
    assert await ada.run(session.id, "say fine")


@pytest.mark.parametrize(
    "reason",
    [
        errors_pb2.ERROR_REASON_UNAUTHENTICATED,
        errors_pb2.ERROR_REASON_PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_CAPACITY,
        999,
    ],
)
async def test_reasons_a_daemon_may_not_give(world: World, ada: Client, reason: int) -> None:
    session = await ada.create()
    world.backend.only.runtime.faults.reason = reason
    found, message = await reason_of(ada.execute(session.id, "1"))
    assert found == INTERNAL and "not its to give" in message


async def test_text_of_a_daemon_is_capped_and_escaped(world: World, ada: Client) -> None:
    session = await ada.create()
    faults = world.backend.only.runtime.faults
    faults.reason = errors_pb2.ERROR_REASON_QUOTA_EXCEEDED
    faults.message = "\x1b]0;owned\x07\u202e" + "y" * 1500
    reason, message = await reason_of(ada.execute(session.id, "1"))
    assert reason == errors_pb2.ERROR_REASON_QUOTA_EXCEEDED
    assert message.startswith(r"\x1b]0;owned\x07\u202eyyy") and len(message) < 600


async def test_a_usage_that_is_no_number(world: World, ada: Client) -> None:
    session = await ada.create()
    request = sessions_pb2.GetUsageRequest(session_id=session.id)
    assert (await ada.stub.GetUsage(request, metadata=ada.metadata)).wall_s == 1.0
    world.backend.only.runtime.faults.usage_wall_s = float("nan")
    reason, _ = await reason_of(ada.stub.GetUsage(request, metadata=ada.metadata))
    assert reason == INTERNAL


@pytest.mark.parametrize(
    "faults",
    [
        {"wire_version": 2},
        {"python_version": "3\x1b[31m"},
        {"python_version": "3" * 40},
        {"level": "perfect"},
        {"layers": ("x",) * 65},
        {"bind_fails": True},
    ],
)
async def test_a_daemon_that_cannot_be_bound_leaves_nothing(
    world: World, ada: Client, faults: dict[str, Any]
) -> None:
    for name, value in faults.items():
        setattr(world.backend.faults, name, value)
    reason, _ = await reason_of(ada.create())
    assert reason == errors_pb2.ERROR_REASON_UNAVAILABLE
    assert world.backend.sandboxes == {} and await ada.ids() == set()
    assert await world.app.parts.store.sandboxes() == []


async def test_words_of_a_daemon_are_escaped(world: World, ada: Client) -> None:
    world.backend.faults.layers = ("\x1b[2J", "x" * 1000)
    session = await ada.create()
    assert list(session.isolation.layers) == [r"\x1b[2J", "x" * 128 + "…"]
