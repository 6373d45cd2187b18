"""A backend whose sandboxes are gRPC servers of this process, and whose failures are settings."""

import asyncio
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from fakes.runtime import FakeRuntime, Faults

from grotto_control.backends.processes import start_ticks
from grotto_control.core.backend import Capabilities, Found, SandboxSpec
from grotto_control.model.errors import BackendFailure
from grotto_control.model.limits import Limits
from grotto_control.model.records import SandboxHandle
from grotto_proto.v1 import runtime_pb2_grpc


@dataclass
class FakeSandbox:
    """One running fake; `runtime` shows what its daemon was told."""

    handle: SandboxHandle
    runtime: FakeRuntime
    server: grpc.aio.Server
    created_s: float
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class FakeBackend:
    """Implements `core.backend.Backend`. Faults set here hold for sandboxes started later."""

    def __init__(self, root: Path, max_tenants: int | None = None) -> None:
        self.root = root
        self.max_tenants = max_tenants
        self.faults = Faults()
        self.images: tuple[str, ...] = ()
        self.start_failure = ""
        self.apply_failure = ""
        self.applied: dict[str, Limits] = {}
        self.list_failure = ""
        self.destroy_failure = ""
        self.asked: list[SandboxSpec] = []
        self.start_gate: asyncio.Event | None = None
        """When set, starts wait for it."""
        self.sandboxes: dict[str, FakeSandbox] = {}
        self.started = 0

    def capabilities(self) -> Capabilities:
        return Capabilities("fake", self.max_tenants, self.images)

    async def start(self, spec: SandboxSpec) -> SandboxHandle:
        self.asked.append(spec)
        if self.start_gate is not None:
            await self.start_gate.wait()
        if self.start_failure:
            raise BackendFailure(self.start_failure, "set `start_failure` to nothing.")
        run_dir = self.root / spec.sandbox_id
        run_dir.mkdir(parents=True)
        runtime = FakeRuntime(spec.token, self.faults)
        server = grpc.aio.server()
        runtime_pb2_grpc.add_RuntimeServicer_to_server(runtime, server)
        server.add_insecure_port(f"unix:{run_dir}/r.sock")
        await server.start()
        handle = SandboxHandle(
            spec.sandbox_id, os.getpid(), start_ticks(os.getpid()) or 0, str(run_dir)
        )
        sandbox = FakeSandbox(handle, runtime, server, time.time())
        runtime.on_shutdown = sandbox.dead.set
        self.sandboxes[spec.sandbox_id] = sandbox
        self.started += 1
        return handle

    async def apply(self, handle: SandboxHandle, limits: Limits, disk_bytes: int) -> None:
        if self.apply_failure:
            raise BackendFailure(self.apply_failure)
        self.applied[handle.sandbox_id] = limits

    async def wait(self, handle: SandboxHandle) -> str:
        sandbox = self.sandboxes.get(handle.sandbox_id)
        if sandbox is not None:
            await sandbox.dead.wait()
        return "was killed by signal 9"

    async def destroy(self, handle: SandboxHandle) -> None:
        if self.destroy_failure:
            raise BackendFailure(self.destroy_failure)
        await self.kill(handle.sandbox_id)
        self.sandboxes.pop(handle.sandbox_id, None)
        shutil.rmtree(self.root / handle.sandbox_id, ignore_errors=True)

    async def list(self) -> Sequence[Found]:
        if self.list_failure:
            raise BackendFailure(self.list_failure)
        return [Found(sandbox.handle, sandbox.created_s) for sandbox in self.sandboxes.values()]

    async def kill(self, sandbox_id: str) -> None:
        """Ends one from outside, as SIGKILL would; what it leaves stays."""
        sandbox = self.sandboxes.get(sandbox_id)
        if sandbox is not None:
            sandbox.runtime.release()
            await sandbox.server.stop(None)
            sandbox.dead.set()

    async def close(self) -> None:
        for sandbox in list(self.sandboxes.values()):
            await self.destroy(sandbox.handle)

    @property
    def only(self) -> FakeSandbox:
        """The one sandbox that is bound."""
        (bound,) = (s for s in self.sandboxes.values() if s.runtime.bound is not None)
        return bound
