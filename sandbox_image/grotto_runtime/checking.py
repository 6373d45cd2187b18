"""Supervision of the checker process: source goes in, violations come out, whatever it contains.

Owns the process's life (start, deadline, death, replacement) and the daemon's end of its
socketpair. It must not parse tenant text itself, nor block the event loop.

The daemon may be PID 1 and collect every child with `waitpid(-1)`, so this module takes part in
collecting its own process but does not rely on being the one who does.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from grotto_policy import Violation, load
from grotto_runtime.check_messages import Check, Checked, Ready
from grotto_wire import frames

DEADLINE_S = 5.0
START_S = 30.0
CHILD_DESCRIPTOR = 3
COMMAND = (sys.executable, "-I", "-m", "grotto_runtime.checker")
_RECEIVE_BYTES = 65536

_SIZE = "size or nesting of the source"
_GAVE_UP = {"memory": _SIZE, "depth": _SIZE, "death": _SIZE, "deadline": "time to check the source"}


class Spawn(Protocol):
    """Executes a program as a child of this process, in a session of its own, without
    environment; `pass_fds` is {number in the child: descriptor here}. Returns its pid, raises
    OSError or an error of its own. May block for milliseconds; is called in a thread.
    """

    def __call__(self, argv: Sequence[str], pass_fds: Mapping[int, int]) -> int: ...


class CheckerFailed(Exception):
    """The checker process cannot be started: a fault of the platform, not of the source."""


class Checker:
    """One supervised checker process, replaced whenever a source was too much for it.

    Checks are answered one at a time, in the order they came.
    """

    def __init__(
        self,
        spawn: Spawn,
        command: Sequence[str] = COMMAND,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """`command` is a checker's argument list but for the number of its descriptor."""
        self._spawn = spawn
        self._command = [*command, str(CHILD_DESCRIPTOR)]
        self._deadline_s = deadline_s
        self._lock = asyncio.Lock()
        self._child: _Child | None = None
        self._last_id = 0

    @property
    def pid(self) -> int | None:
        """The checker's process id, None when there is none."""
        return self._child.pid if self._child else None

    @property
    def layers(self) -> list[str]:
        """The isolation layers the checker reported; empty before `start`."""
        return self._child.layers if self._child else []

    async def start(self) -> None:
        """Starts the process and waits until it serves; raises CheckerFailed. Optional."""
        async with self._lock:
            await self._ready()

    async def check(self, source: str, policy: str) -> list[Violation]:
        """Returns every violation of the policy of that name in `source`, none if it may run.

        Source that does not parse has no violations: running it raises the same error. Source
        that is too complex to be judged is one violation of rule "complexity". Raises
        UnknownPolicy, and CheckerFailed when no checker can be had.
        """
        if load(policy).is_empty:
            return []
        async with self._lock:
            child = await self._ready()
            try:
                return await self._exchange(child, source, policy)
            except BaseException:
                self._child = None
                await asyncio.to_thread(child.end)
                raise

    def close(self) -> None:
        """Ends the process; a check under way ends with it. Blocks until the kernel is done."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            if not self._lock.locked():
                child.disconnect()  # else whoever reads from it learns that it died

    async def _exchange(self, child: "_Child", source: str, policy: str) -> list[Violation]:
        self._last_id += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                await child.send(Check(self._last_id, source, policy))
                answer: Checked = await child.receive(Checked)
            gave_up = answer.gave_up
        except TimeoutError:
            gave_up = "deadline"
        except (frames.Closed, ConnectionError):
            gave_up = "death"
        if self._child is not child:
            child.disconnect()
            raise CheckerFailed("the checker was closed")
        if gave_up is None:
            if answer.id != self._last_id:
                raise frames.FrameError("the checker answered another request")
            return answer.violations
        self._child = None
        await asyncio.to_thread(child.end)
        return [_complexity(_GAVE_UP.get(gave_up, _SIZE))]

    async def _ready(self) -> "_Child":
        """Returns a child that serves, starting one when there is none or it died idle."""
        if self._child is not None and self._child.is_gone():
            await asyncio.to_thread(self._child.end)
            self._child = None
        if self._child is None:
            self._child = await _spawned(self._spawn, self._command)
            await self._greet(self._child)
        return self._child

    async def _greet(self, child: "_Child") -> None:
        """Waits until a new child serves."""
        try:
            async with asyncio.timeout(START_S):
                ready: Ready = await child.receive(Ready)
        except BaseException as error:
            self._child = None
            await asyncio.to_thread(child.end)
            if isinstance(error, TimeoutError | frames.Closed | frames.FrameError | OSError):
                raise CheckerFailed("the checker ended before it served") from error
            raise
        child.layers = ready.layers


class _Child:
    """A checker process and the daemon's end of its socketpair."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.layers: list[str] = []
        self._socket = sock
        self._buffer = bytearray()

    def is_gone(self) -> bool:
        """Whether the peer has closed; nothing is due from it between two checks."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def send(self, message: Any) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, frames.encode(message))

    async def receive(self, kind: Any) -> Any:
        header = await self._take(frames.HEADER.size)
        length, _ = frames.parse_header(header)
        return frames.decode(await self._take(length), kind)

    async def _take(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        while len(self._buffer) < size:
            chunk = await loop.sock_recv(self._socket, _RECEIVE_BYTES)
            if not chunk:
                raise frames.Closed
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def end(self) -> None:
        self.disconnect()
        self.kill()

    def disconnect(self) -> None:
        self._socket.close()

    def kill(self) -> None:
        """Kills the process if it is still ours, and waits until it is collected."""
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


async def _spawned(spawn: Spawn, command: list[str]) -> _Child:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        pid = await asyncio.to_thread(_spawn, spawn, command, theirs)
    except BaseException as error:
        ours.close()
        if isinstance(error, Exception):
            raise CheckerFailed(f"the checker cannot be started: {error}") from error
        raise
    return _Child(pid, ours)


def _spawn(spawn: Spawn, command: list[str], theirs: socket.socket) -> int:
    """In a thread, which goes on when its task is cancelled: so the thread closes `theirs`, and
    a child nobody waits for any more ends by itself, its channel being closed."""
    with theirs:
        return spawn(command, {CHILD_DESCRIPTOR: theirs.fileno()})


def _complexity(what: str) -> Violation:
    return Violation(
        layer="ast",
        rule="complexity",
        what=what,
        line=1,
        column=1,
        why="The source is too large or too deeply nested to be checked.",
        hint="Split the code into smaller executions.",
    )
