"""The daemon's own state: unbound until Bind, then one session; and when it ends.

It ends on Shutdown, when its lease closes, or when nobody has
called for the orphan grace. Its end takes every process of the sandbox along.
"""

import asyncio
import os
import time

from grotto_policy import UnknownPolicy, load
from grotto_proto.v1 import errors_pb2, runtime_pb2, sessions_pb2
from grotto_runtime.checking import Checker
from grotto_runtime.errors import RuntimeFailure, invalid
from grotto_runtime.files import Workspace
from grotto_runtime.processes import Reaper
from grotto_runtime.session import Session
from grotto_runtime.supervisor import Supervisor
from grotto_runtime.tree import Tree
from grotto_runtime.zygote import Zygote
from grotto_wire import frames


class Daemon:
    """Everything of a sandbox that is not a wire."""

    def __init__(
        self,
        zygote: Zygote,
        checker: Checker,
        reaper: Reaper,
        workspace: str,
        isolation: sessions_pb2.Isolation,
        own_pids: frozenset[int],
    ) -> None:
        self.bound: runtime_pb2.BindRequest | None = None
        self.stopping = asyncio.Event()
        self._zygote = zygote
        self._checker = checker
        self._reaper = reaper
        self._workspace = workspace
        self._isolation = isolation
        self._own_pids = own_pids
        self._session: Session | None = None
        self._bound_at = 0.0
        self._last_call = time.monotonic()
        self._binding = asyncio.Lock()

    @property
    def session(self) -> Session:
        if self._session is None:
            raise RuntimeFailure(
                errors_pb2.ERROR_REASON_INVALID_ARGUMENT, "no session is bound to this sandbox"
            )
        return self._session

    async def bind(self, request: runtime_pb2.BindRequest) -> None:
        """Starts the session's worker under its settings; the same request again is no-op."""
        async with self._binding:
            if self.bound is not None:
                if self.bound == request:
                    return
                raise invalid("this sandbox is bound to another session")
            try:
                load(request.policy)
            except UnknownPolicy as error:
                raise invalid(str(error)) from error
            supervisor = Supervisor(
                self._zygote,
                self._reaper,
                _configure(request, self._workspace),
                request.recovery != sessions_pb2.RECOVERY_OFF,
                Tree(self._owned, self._reaper),
            )
            await supervisor.start()
            self._session = Session(request, supervisor, self._checker, Workspace(self._workspace))
            self.bound, self._bound_at = request, time.monotonic()

    def isolation(self) -> sessions_pb2.Isolation:
        """What is in force, the layers of the live worker included."""
        report = sessions_pb2.Isolation()
        report.CopyFrom(self._isolation)
        if self._session is not None:
            report.layers.extend(self._session.supervisor.layers)
        return report

    def usage(self) -> sessions_pb2.Usage:
        usage = self.session.usage()
        usage.wall_s = time.monotonic() - self._bound_at
        return usage

    def called(self) -> None:
        """The control plane is there."""
        self._last_call = time.monotonic()

    def stop(self) -> None:
        self.stopping.set()

    async def watch_for_orphanhood(self, grace_s: float) -> None:
        """Stops the sandbox when nobody has called for `grace_s`."""
        while (left := self._last_call + grace_s - time.monotonic()) > 0:
            await asyncio.sleep(left)
        self.stop()

    def hold_lease(self, descriptor: int) -> None:
        """Stops the sandbox when the descriptor reaches its end."""
        asyncio.get_running_loop().add_reader(descriptor, self._lease_readable, descriptor)

    def close(self) -> None:
        """Ends every process of the sandbox but this one."""
        if self._session is not None:
            self._session.close()
        self._checker.close()
        self._zygote.close()

    def _owned(self) -> set[int]:
        owned = set(self._own_pids)
        if self._checker.pid:
            owned.add(self._checker.pid)
        return owned

    def _lease_readable(self, descriptor: int) -> None:
        try:
            more = os.read(descriptor, 4096)
        except OSError:  # a socket that was reset
            more = b""
        if not more:
            asyncio.get_running_loop().remove_reader(descriptor)
            self.stop()


def _configure(request: runtime_pb2.BindRequest, workspace: str) -> frames.Configure:
    return frames.Configure(
        id=0,
        env=dict(request.env),
        workspace=workspace,
        memory_bytes=request.limits.memory_bytes,
        pids=request.limits.pids,
        cpus=request.limits.cpus,
    )
