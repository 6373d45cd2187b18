"""Starts inner processes from a tiny process of its own, forked before threads and gRPC exist.

The spawner holds no capability; what it has that the daemon lacks is a mount namespace without
/run/grotto and /proc. Its children belong to the daemon, not to it. So a zygote or checker that
died can be started again at any time, from a clean, single-threaded process.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grotto_worker.harden.syscalls import PR_SET_PDEATHSIG, fork_sibling, prctl

_MAX_REQUEST_BYTES = 128 * 1024
_MAX_DESCRIPTORS = 32
_OOM_SCORE = "800"
_IGNORED_BY_THE_DAEMON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGPIPE,
)


class SpawnFailed(Exception):
    """A process could not be started; the text says why."""


class Spawner:
    """The daemon's end. `spawn` blocks for a few milliseconds; it may be called from any thread."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._lock = threading.Lock()

    def spawn(
        self,
        argv: Sequence[str],
        pass_fds: Mapping[int, int] | Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Executes a program as a child of the daemon, in its own session; returns its pid.

        Args:
            argv: the program, as an absolute path, and its arguments.
            pass_fds: {number in the child: descriptor here}, or descriptors that keep their
                numbers. Input and output are /dev/null and errors go where the daemon's go,
                unless 0, 1 or 2 are among them. They stay open here.
            env: the whole environment, by default empty.

        Raises:
            SpawnFailed: the program could not be executed, or the spawner is gone.
        """
        given = pass_fds if isinstance(pass_fds, Mapping) else {one: one for one in pass_fds}
        request = {"argv": list(argv), "env": dict(env or {}), "targets": list(given)}
        with self._lock:
            try:
                socket.send_fds(self._channel, [json.dumps(request).encode()], given.values())
                reply = json.loads(self._channel.recv(_MAX_REQUEST_BYTES) or b"{}")
            except OSError as error:
                raise SpawnFailed(f"the spawner cannot be reached: {error.strerror}") from error
        if "pid" not in reply:
            raise SpawnFailed(reply.get("error", "the spawner is gone"))
        return int(reply["pid"])

    def close(self) -> None:
        """Ends the spawner; what it started goes on."""
        self._channel.close()


def start(prepare: Callable[[], None], *, die_with_daemon: bool) -> Spawner:
    """Forks the spawner, which calls `prepare` first, and waits until it serves.

    Args:
        prepare: gives up what inner processes must not have; an error in it is raised here.
        die_with_daemon: kill what it started when the daemon's main thread ends; for levels
            where no pid namespace does that.

    Raises:
        SpawnFailed: `prepare` failed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon = os.getpid() if die_with_daemon else None
    pid = os.fork()
    if pid == 0:
        ours.close()
        _run(theirs, prepare, daemon)
    theirs.close()
    hello = json.loads(ours.recv(_MAX_REQUEST_BYTES) or b"{}")
    if hello.get("ready") is not True:
        ours.close()
        os.waitpid(pid, 0)
        raise SpawnFailed(hello.get("error", "the spawner died"))
    return Spawner(pid, ours)


def _run(channel: socket.socket, prepare: Callable[[], None], daemon: int | None) -> None:
    """The spawner's whole life; never returns."""
    try:
        os.setsid()
        _detach_standard_streams()
        # The kernel shall end inner processes before the daemon. They cannot set it themselves:
        # the file belongs to root as soon as a process is undumpable.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(_OOM_SCORE)
        prepare()
        channel.send(b'{"ready": true}')
        while True:
            data, descriptors, _, _ = socket.recv_fds(channel, _MAX_REQUEST_BYTES, _MAX_DESCRIPTORS)
            if not data:
                break
            reply = _launch(json.loads(data), descriptors, daemon)
            for descriptor in descriptors:
                os.close(descriptor)
            channel.send(json.dumps(reply).encode())
    except BaseException as error:
        with contextlib.suppress(OSError):
            channel.send(json.dumps({"error": str(error)}).encode())
    finally:
        os._exit(0)


def _detach_standard_streams() -> None:
    """Holds neither the lease pipe nor the pipe whose end tells that the daemon is up."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _launch(request: dict[str, Any], descriptors: list[int], daemon: int | None) -> dict[str, Any]:
    read, write = os.pipe()
    child = fork_sibling()
    if child == 0:
        _execute(request, descriptors, write, daemon)
    os.close(write)
    with open(read, "rb") as failure:
        said = failure.read(1000).decode(errors="replace")
    return {"error": said} if said else {"pid": child}


def _execute(request: dict[str, Any], given: list[int], failure: int, daemon: int | None) -> None:
    """In the child: arranges descriptors and executes; tells `failure` why it could not."""
    try:
        os.setsid()
        if daemon is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != daemon:
                os._exit(1)
        for number in _IGNORED_BY_THE_DAEMON:
            signal.signal(number, signal.SIG_DFL)
        failure = _arrange(request["targets"], given, failure)
        os.execve(request["argv"][0], request["argv"], request["env"])  # noqa: S606  (no shell)
    except BaseException as error:
        os.write(failure, str(error).encode(errors="replace")[:1000] or b"unknown")
    finally:
        os._exit(127)


def _arrange(targets: list[int], given: list[int], failure: int) -> int:
    """Gives descriptors their numbers, closes the rest but 0 to 2; returns the moved `failure`."""
    above = max([2, *targets]) + 1
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, above) for one in [failure, *given]]
    for target, source in zip(targets, moved[1:], strict=True):
        os.dup2(source, target, inheritable=True)
    for number in range(3, max([*moved, *given]) + 1):
        if number not in targets and number != moved[0]:
            with contextlib.suppress(OSError):
                os.close(number)
    return moved[0]
