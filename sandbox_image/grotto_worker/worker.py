"""The live worker: serves one frame after another on the interpreter's main thread.

Reports what the interpreter saw. Deadlines, outcomes and death are the daemon's.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from grotto_wire.frames import (
    MAX_BUNDLE_BYTES,
    Channel,
    Closed,
    Configure,
    Delete,
    Describe,
    Display,
    Done,
    Execute,
    Executed,
    Failed,
    Freeze,
    Get,
    Hello,
    Put,
    Thaw,
    ToWorker,
)
from grotto_worker import harden, namespace, problems, values
from grotto_worker.shell import Shell

COPIED_BELOW_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 2000
OTHERS_PROCESSES = 32
"""Spawner, zygote, checker, recovery points, and the daemon's threads where it shares the uid."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_PR_SET_PDEATHSIG = 1
_libc = ctypes.PyDLL(None)


def adopt(descriptors: list[int]) -> Channel:
    """Takes channel, stdout and stderr of a new process; the last two become 1 and 2."""
    channel, stdout, stderr = descriptors
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    return Channel(socket.socket(fileno=channel))


class Refusal(Exception):
    """A request cannot be carried out; nothing was changed."""

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.hint = reason, message, hint


class Worker:
    """One interpreter behind one channel."""

    def __init__(self, channel: Channel, shell: Shell, level: str) -> None:
        self._channel = channel
        self._shell = shell
        self._level = level
        self._descriptions: dict[str, str] = {}
        self._executing = False
        self._interrupted = False
        self._frozen: list[int] = []

    def run(self) -> None:
        """Serves frames until the daemon closes the channel."""
        _open_streams()
        while True:
            self._listen_for_interrupts()
            try:
                request, descriptors = self._channel.receive(ToWorker)
            except Closed:
                return
            # By now whoever forked this process is gone, and the daemon is its parent.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            self._serve(request, descriptors)

    def _serve(self, request: Any, descriptors: list[int]) -> None:
        if isinstance(request, Execute):
            self._channel.send(self._execute(request))
        elif isinstance(request, Freeze):
            self._freeze(request, descriptors)
        else:
            self._channel.send(self._answer(request, descriptors))
            for descriptor in descriptors:
                os.close(descriptor)

    def _answer(self, request: Any, descriptors: list[int]) -> Done | Failed:
        if isinstance(request, Configure):  # a failure ends this process: it has no limits yet
            return self._configure(request, descriptors)
        handlers: dict[Any, Callable[[Any, list[int]], Done]] = {
            Put: self._put,
            Get: self._get,
            Describe: self._describe,
            Delete: self._delete,
        }
        try:
            return handlers[type(request)](request, descriptors)
        except Refusal as refusal:
            message = namespace.text(refusal.message, MAX_MESSAGE_BYTES)
            return Failed(request.id, refusal.reason, message, refusal.hint)
        except BaseException as error:  # objects of a tenant may raise anything, SystemExit too
            message = f"the interpreter could not do it: {namespace.type_name(error)}"
            return Failed(request.id, "invalid_argument", message)

    def _configure(self, request: Configure, _: list[int]) -> Done:
        os.environ.update(request.env)
        os.chdir(request.workspace)
        sys.path.insert(0, request.workspace)
        layers = harden.limit_worker(
            memory_bytes=request.memory_bytes,
            pids=self._process_limit(request.pids),
            cpus=request.cpus,
        )
        return Done(request.id, layers=layers)

    def _process_limit(self, pids: int) -> int | None:
        """Where the kernel counts the user's processes on the whole machine, there is none."""
        if self._level == "container":  # its users are its own, and are those of others in it, too
            return pids + OTHERS_PROCESSES
        return pids if self._level == "full" else None

    # ---- executions ----

    def _execute(self, request: Execute) -> Executed:
        output = _Displays(self._channel, request)
        self._interrupted = False
        error: BaseException | None = None
        problem = None
        try:
            self._executing = True
            error = self._shell.run(request.source, output.publish)
            if error is not None:
                problem = problems.describe(error, request.source.count("\n") + 1)
            _flush()
        except BaseException as late:  # an interrupt between two statements of ours
            problem = problems.describe(late, 0)
        finally:
            self._executing = False
        return Executed(request.id, problem, output.result, self._interrupted, output.dropped_bytes)

    def _listen_for_interrupts(self) -> None:
        """Puts the handler back that tenant code may have replaced or blocked."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _on_interrupt(self, *_: object) -> None:
        if self._executing:
            self._interrupted = True
            raise KeyboardInterrupt

    # ---- values ----

    def _put(self, request: Put, descriptors: list[int]) -> Done:
        payload = _payload(descriptors, request.size_bytes)
        try:
            items = values.decode(payload)
        except values.Undecodable as error:
            raise Refusal("invalid_argument", str(error), error.hint) from error
        if type(items) is not dict or list(items) != request.names:
            raise Refusal("invalid_argument", "the envelope does not hold the announced names")
        self._shell.namespace.update(items)
        for name in request.names:
            self._descriptions[name] = request.descriptions.get(name, "")
        return Done(request.id)

    def _get(self, request: Get, descriptors: list[int]) -> Done:
        self._require(request.names)
        picked = tuple(self._shell.namespace[name] for name in request.names)
        try:
            segments = values.encode(picked, request.names)
        except values.Untransferable as error:
            raise Refusal("untransferable", str(error)) from error
        total = values.size(segments)
        if total > request.max_bytes:
            raise Refusal(
                "value_too_large",
                f"the value takes {total} bytes, the limit is {request.max_bytes}",
                "retrieve a part of it, or raise limits.value_bytes of the session",
            )
        for segment in segments:
            _write_all(descriptors[0], segment)
        return Done(request.id, size_bytes=total)

    def _describe(self, request: Describe, _: list[int]) -> Done:
        names = self._shell.own_names()
        found = namespace.describe(self._shell.namespace, names, self._descriptions)
        return Done(request.id, variables=found)

    def _delete(self, request: Delete, _: list[int]) -> Done:
        self._require(request.names)
        for name in dict.fromkeys(request.names):
            del self._shell.namespace[name]
            self._descriptions.pop(name, None)
        return Done(request.id)

    def _require(self, names: list[str]) -> None:
        missing = [name for name in names if name not in self._shell.namespace]
        if missing:
            raise Refusal(
                "not_found",
                f"the session has no variable named {', '.join(missing)}",
                "session.variables() lists what there is",
            )

    # ---- recovery points ----

    def _freeze(self, request: Freeze, descriptors: list[int]) -> None:
        """Forks a copy that waits, as it is now, until the daemon thaws it."""
        self._reap()
        _flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._channel.send(Failed(request.id, "invalid_argument", str(error)))
            return
        if pid == 0:
            self._wait_frozen(request, descriptors)
            return
        self._frozen.append(pid)
        for descriptor in descriptors:
            os.close(descriptor)
        self._channel.send(Done(request.id))
        # The next execution would pay for copying every page it touches first:
        # touch them now, while nobody waits.
        self._shell.warm_up()

    def _wait_frozen(self, request: Freeze, descriptors: list[int]) -> None:
        """In the copy: returns when thawed, as the live worker; exits when dropped."""
        self._channel.close()
        self._channel = adopt(descriptors)
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._frozen.clear()
        try:
            self._channel.send(Hello(request.id))
            thaw, _ = self._channel.receive(ToWorker)
        except Closed:
            os._exit(0)
        if not isinstance(thaw, Thaw):
            os._exit(1)
        self._shell.rebuild_loop()
        self._channel.send(Done(thaw.id))

    def _reap(self) -> None:
        """Collects frozen copies the daemon has ended: they are this process's children."""
        left = []
        for pid in self._frozen:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    left.append(pid)
        self._frozen = left


class _Displays:
    """Sends displays of one execution, up to its output limit."""

    def __init__(self, channel: Channel, request: Execute) -> None:
        self._channel = channel
        self._id = request.id
        self._left_bytes = request.max_output_bytes
        self.result: dict[str, bytes] | None = None
        self.dropped_bytes = 0

    def publish(self, bundle: Mapping[str, Any], is_result: bool) -> None:
        data = {str(mime)[:200]: _raw(content) for mime, content in bundle.items()}
        size = sum(len(content) for content in data.values())
        if size > min(self._left_bytes, MAX_BUNDLE_BYTES):
            self.dropped_bytes += size
            return
        self._left_bytes -= size
        if is_result:
            self.result = data
        else:
            self._channel.send(Display(self._id, data))


def _raw(content: object) -> bytes:
    if isinstance(content, bytes):
        return content
    return str(content).encode("utf-8", "backslashreplace")


def _payload(descriptors: list[int], size_bytes: int) -> memoryview:
    """Maps the sealed memfd privately; a small one is copied, to keep no descriptor."""
    if len(descriptors) != 1:
        raise Refusal("invalid_argument", "a value comes with one descriptor")
    memfd = descriptors[0]
    if fcntl.fcntl(memfd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise Refusal("invalid_argument", "the value's memory is not sealed")
    if size_bytes < COPIED_BELOW_BYTES:
        return memoryview(bytearray(os.pread(memfd, size_bytes, 0)))
    mapped = mmap.mmap(
        memfd, size_bytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
    )
    return memoryview(mapped)


def _write_all(descriptor: int, segment: Any) -> None:
    view = memoryview(segment).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def _open_streams() -> None:
    """Text streams over 1 and 2, whatever a surrogate is printed."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = open(  # noqa: SIM115
            descriptor,
            "w",
            buffering=1,
            encoding="utf-8",
            errors="backslashreplace",
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _flush() -> None:
    """Pushes out what Python and C still buffer; a closed stream has nothing to say."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    _libc.fflush(None)
