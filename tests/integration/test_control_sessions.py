"""The control plane over a real connection: what sessions do when all goes well."""

from collections.abc import AsyncIterator

import pytest
from fakes.control import World, running, short_folder

from grotto_proto.v1 import execution_pb2, sessions_pb2


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with short_folder() as folder, running(folder) as world:
        yield world


async def test_a_session_executes_and_holds_values(world: World) -> None:
    ada = await world.client()
    session = await ada.create(labels={"team": "x"}, limits=sessions_pb2.Limits(cpus=2))
    assert session.status == sessions_pb2.SESSION_STATUS_READY
    assert (session.policy, session.limits.cpus, session.limits.pids) == ("standard", 2.0, 128)
    assert session.isolation.backend == "fake"

    events = await ada.run(session.id, "say hello")
    assert events[0].stdout == b"hello"
    assert events[-1].finished.outcome == execution_pb2.OUTCOME_OK

    payload = bytes(range(256)) * 5000
    await ada.put(session.id, "x", payload, step=300_000)
    assert await ada.value(session.id, "x") == payload
    assert (await ada.get(session.id)).labels == {"team": "x"}
    assert await ada.ids() == {session.id}

    await ada.close(session.id)
    assert await ada.ids() == set()
    assert world.backend.sandboxes == {}
