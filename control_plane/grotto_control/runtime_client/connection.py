"""A gRPC channel to one daemon, through a socket that was opened once and checked."""

import os

import grpc

from grotto_control.model.limits import MAX_MESSAGE_BYTES
from grotto_control.model.records import SandboxHandle
from grotto_control.sandbox_socket import connected, open_pinned, pinned_path

SOCKET_NAME = "r.sock"
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
        self._descriptor = open_pinned(handle, SOCKET_NAME)
        try:
            connected(self._descriptor, handle).close()
            path = pinned_path(self._descriptor)
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
