"""Opens the socket of a sandbox so that the sandbox cannot lead us elsewhere.

The directory that holds the socket may be written by the sandbox: a symbolic link
there must not send us to another session's socket (security.md 5).
"""

import os
import socket
import stat
import struct

import grpc

from grotto_control.model.errors import SandboxUnreachable
from grotto_control.model.limits import MAX_MESSAGE_BYTES
from grotto_control.model.records import SandboxHandle

SOCKET_NAME = "r.sock"
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # Channels are told apart by their target text, and `/proc/self/fd/N` is used again for
    # the next sandbox: in the shared pool it could be answered by the connection to this one.
    ("grpc.use_local_subchannel_pool", 1),
)


class Connection:
    """A channel pinned to one socket inode, whose listener has been identified."""

    def __init__(self, handle: SandboxHandle) -> None:
        """Raises SandboxUnreachable unless the daemon of the handle listens there."""
        self._descriptor = _open_socket(handle)
        try:
            path = f"/proc/self/fd/{self._descriptor}"
            _check_listener(path, handle.pid)
            self.channel = grpc.aio.insecure_channel(f"unix:{path}", options=_OPTIONS)
        except BaseException:
            os.close(self._descriptor)
            raise

    async def close(self) -> None:
        """Ends the calls that run on it; again is no error."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            await self.channel.close(None)
            os.close(descriptor)


def _open_socket(handle: SandboxHandle) -> int:
    try:
        directory = os.open(handle.run_dir, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY)
        try:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(SOCKET_NAME, flags, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise SandboxUnreachable("its socket is not there") from error
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SandboxUnreachable("its socket is not a socket")
    return descriptor


def _check_listener(path: str, pid: int) -> None:
    """The credentials are those of the process that called listen(2)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError as error:
            raise SandboxUnreachable("its socket refuses connections") from error
    if _CREDENTIALS.unpack(raw)[0] != pid:
        raise SandboxUnreachable("its socket belongs to another process")
