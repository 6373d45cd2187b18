"""A sandbox that owns its socket's directory cannot send the control plane elsewhere.

Attacks on `runtime_client.connection`; each has a control arm that shows it work without.
"""

import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from fakes.backend import FakeBackend, FakeSandbox
from fakes.control import short_folder

from grotto_control.core.backend import Kind, SandboxSpec
from grotto_control.core.clock import new_sandbox_id, new_token
from grotto_control.metrics import PrometheusMetrics
from grotto_control.model.errors import SandboxUnreachable
from grotto_control.runtime_client.client import RuntimeClient
from grotto_control.runtime_client.connection import _OPTIONS, SOCKET_NAME, Connection
from grotto_proto import WIRE_VERSION
from grotto_proto.metadata import TOKEN
from grotto_proto.v1 import runtime_pb2, runtime_pb2_grpc


@pytest.fixture
async def backend() -> AsyncIterator[FakeBackend]:
    async with short_folder() as folder:
        made = FakeBackend(folder)
        yield made
        await made.close()


async def sandbox(backend: FakeBackend, token: str) -> FakeSandbox:
    handle = await backend.start(SandboxSpec(new_sandbox_id(), token, Kind("", 1)))
    return backend.sandboxes[handle.sandbox_id]


def socket_of(sandbox: FakeSandbox) -> Path:
    return Path(sandbox.handle.run_dir) / SOCKET_NAME


async def greeted(channel: grpc.aio.Channel, token: str) -> None:
    stub: Any = runtime_pb2_grpc.RuntimeStub(channel)
    request = runtime_pb2.HandshakeRequest(wire_version=WIRE_VERSION)
    await stub.Handshake(request, metadata=((TOKEN, token),))


async def test_a_link_to_another_sandboxs_socket_is_not_followed(backend: FakeBackend) -> None:
    token = new_token()
    victim, attacker = await sandbox(backend, token), await sandbox(backend, token)
    socket_of(attacker).unlink()
    socket_of(attacker).symlink_to(socket_of(victim))
    with socket.socket(socket.AF_UNIX) as naive:
        naive.connect(str(socket_of(attacker)))  # control arm: by path one ends at the victim
    with pytest.raises(SandboxUnreachable):
        Connection(attacker.handle)


async def test_a_linked_directory_is_not_followed(backend: FakeBackend) -> None:
    victim = await sandbox(backend, new_token())
    link = backend.root / "link"
    link.symlink_to(victim.handle.run_dir)
    with socket.socket(socket.AF_UNIX) as naive:
        naive.connect(str(link / SOCKET_NAME))
    with pytest.raises(SandboxUnreachable):
        Connection(replace(victim.handle, run_dir=str(link)))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.write_text(""), os.mkdir])
async def test_what_is_no_socket_is_not_opened(backend: FakeBackend, make: Any) -> None:
    attacker = await sandbox(backend, new_token())
    socket_of(attacker).unlink()
    make(socket_of(attacker))
    with pytest.raises(SandboxUnreachable):
        Connection(attacker.handle)


async def test_a_listener_that_is_not_the_daemon_is_refused(backend: FakeBackend) -> None:
    attacker = await sandbox(backend, new_token())
    await Connection(attacker.handle).close()  # control arm: the true pid
    with pytest.raises(SandboxUnreachable, match="another process"):
        Connection(replace(attacker.handle, pid=os.getppid()))


async def test_a_socket_put_there_later_gets_no_call(backend: FakeBackend) -> None:
    """The channel is pinned to the socket it was opened on, not to its path."""
    token = new_token()
    first, second = await sandbox(backend, token), await sandbox(backend, token)
    client = RuntimeClient(first.handle, token, "fake", PrometheusMetrics())
    path = socket_of(first)
    path.rename(path.with_name("old"))
    path.symlink_to(socket_of(second))
    await client.handshake(5.0)
    assert (first.runtime.handshakes, second.runtime.handshakes) == (1, 0)
    await client.close()


@pytest.mark.parametrize("is_protected", [False, True])
async def test_a_descriptor_number_used_again_leads_to_its_new_socket(
    backend: FakeBackend, is_protected: bool
) -> None:
    """gRPC shares connections between channels of the same target text, and the text is
    `/proc/self/fd/N`: unprotected, a call for one sandbox arrives at another."""
    token = new_token()
    first, second = await sandbox(backend, token), await sandbox(backend, token)
    options = _OPTIONS if is_protected else ()
    descriptor = os.open(socket_of(first), os.O_PATH)
    target = f"unix:/proc/self/fd/{descriptor}"
    async with grpc.aio.insecure_channel(target, options=options) as one:
        await greeted(one, token)
        os.close(descriptor)
        assert os.open(socket_of(second), os.O_PATH) == descriptor
        async with grpc.aio.insecure_channel(target, options=options) as other:
            await greeted(other, token)
    os.close(descriptor)
    reached = (first.runtime.handshakes, second.runtime.handshakes)
    assert reached == ((1, 1) if is_protected else (2, 0))
