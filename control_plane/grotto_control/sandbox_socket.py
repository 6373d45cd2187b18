"""Opens a socket of a sandbox so that the sandbox cannot lead us elsewhere.

The directory that holds the socket may be written by the sandbox: a symbolic link
there must not send us to another session's socket (security.md 5).
"""

import os
import socket
import stat
import struct

from grotto_control.model.errors import SandboxUnreachable
from grotto_control.model.records import SandboxHandle

CONTAINER_RUN_DIR = ("run", "grotto")
"""Where a sandbox in a container has its sockets, one name at a time."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def open_pinned(handle: SandboxHandle, name: str) -> int:
    """Returns an O_PATH descriptor of a socket in the handle's directory, which the caller closes.

    Raises SandboxUnreachable when there is none, or something else.
    """
    try:
        descriptor = _opened(handle.run_dir, (name,))
    except OSError as error:
        if handle.container_id is None:
            raise SandboxUnreachable("its socket is not there") from error
        descriptor = _opened_from_inside(handle, name)
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SandboxUnreachable("its socket is not a socket")
    return descriptor


def _opened_from_inside(handle: SandboxHandle, name: str) -> int:
    """A restarted engine has unmounted the volume here, and not in the container.

    Whoever has the daemon's pid by now, the peer check finds out.
    """
    try:
        return _opened(f"/proc/{handle.pid}/root", (*CONTAINER_RUN_DIR, name))
    except OSError as error:
        raise SandboxUnreachable("its socket is not there") from error


def _opened(start: str, names: tuple[str, ...]) -> int:
    """Returns an O_PATH descriptor. Follows no link; `start` alone may be one, if of /proc."""
    flags = os.O_PATH | os.O_CLOEXEC
    follow = 0 if start.startswith("/proc/") else os.O_NOFOLLOW
    descriptor = os.open(start, flags | follow | os.O_DIRECTORY)
    for name in names:
        parent = descriptor
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
        finally:
            os.close(parent)
    return descriptor


def pinned_path(descriptor: int) -> str:
    """Returns a path that leads to the pinned socket and nowhere else."""
    return f"/proc/self/fd/{descriptor}"


def connected(descriptor: int, handle: SandboxHandle) -> socket.socket:
    """Returns a non-blocking connection whose listener is the daemon of the handle.

    Raises SandboxUnreachable.
    """
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.connect(pinned_path(descriptor))
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError as error:
        probe.close()
        raise SandboxUnreachable("its socket refuses connections") from error
    # The credentials are those of the process that called listen(2).
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    if not _is_daemon(pid, uid, handle):
        probe.close()
        raise SandboxUnreachable("its socket belongs to another process")
    return probe


def _is_daemon(pid: int, uid: int, handle: SandboxHandle) -> bool:
    """A container's processes have no number here when this process is in a container itself;
    the daemon's uid, which no other process on the host has, tells it then."""
    if handle.container_id is None:
        return pid == handle.pid
    return uid == handle.uid and pid in (0, handle.pid)
