"""The daemon's end of a socketpair: frames in, frames out, replies matched by id.

What arrives is hostile: a bad frame closes the channel. Descriptors only travel
from the daemon; any that arrive are closed.
"""

import array
import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from grotto_wire import frames

_CREDENTIALS = struct.Struct("3i")
_ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(frames.MAX_DESCRIPTORS * 4)
_READ_BYTES = 256 * 1024


class ChannelClosed(Exception):
    """The channel was closed, here or by the peer, before the reply came."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Returns (ours, theirs); ours learns the sender's pid from the kernel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    ours.setblocking(False)
    return ours, theirs


class DaemonChannel:
    """Frames to and from one process. `on_frame` gets those nobody waits for."""

    def __init__(self, sock: socket.socket, on_frame: Callable[[Any], None]) -> None:
        self._sock = sock
        self._on_frame = on_frame
        self._buffer = bytearray()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._sending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)
        self.peer_pid = 0
        self.closed = False

    async def request(self, message: Any, descriptors: tuple[int, ...] = ()) -> Any:
        """Sends a message and returns the reply with its id; raises ChannelClosed."""
        reply = self.expect(message.id)
        await self.send(message, descriptors)
        return await reply

    def expect(self, request_id: int) -> asyncio.Future[Any]:
        """Returns a future of the reply with that id."""
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(_looked_at)
        if self.closed:
            future.set_exception(ChannelClosed())
        else:
            self._waiting[request_id] = future
        return future

    async def send(self, message: Any, descriptors: tuple[int, ...] = ()) -> None:
        data = frames.encode(message, len(descriptors))
        async with self._sending:
            if self.closed:
                raise ChannelClosed
            try:
                sent = self._send_now(data, descriptors)
                if sent < len(data):
                    await self._loop.sock_sendall(self._sock, memoryview(data)[sent:])
            except OSError as error:
                self.close()
                raise ChannelClosed from error

    def _send_now(self, data: bytes, descriptors: tuple[int, ...]) -> int:
        if not descriptors:
            try:
                return self._sock.send(data)
            except BlockingIOError:
                return 0
        rights = array.array("i", descriptors)
        return self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def close(self) -> None:
        """Closes our end; everybody who waits gets ChannelClosed."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ChannelClosed())
        self._waiting.clear()

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(
                _READ_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._note(ancillary)
        if not data:
            self.close()
            return
        self._buffer += data
        try:
            self._parse()
        except frames.FrameError:
            self.close()

    def _note(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for descriptor in frames.descriptors_in(ancillary):
            os.close(descriptor)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                self.peer_pid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]

    def _parse(self) -> None:
        while not self.closed and len(self._buffer) >= frames.HEADER.size:
            length, descriptors = frames.parse_header(bytes(self._buffer[: frames.HEADER.size]))
            end = frames.HEADER.size + length
            if descriptors:
                raise frames.FrameError("a worker sends no descriptors")
            if len(self._buffer) < end:
                return
            payload = bytes(memoryview(self._buffer)[frames.HEADER.size : end])
            del self._buffer[:end]
            self._deliver(frames.decode(payload, frames.FromWorker))

    def _deliver(self, message: Any) -> None:
        future = (
            None if isinstance(message, frames.Display) else self._waiting.pop(message.id, None)
        )
        if future is None:
            self._on_frame(message)
        elif not future.done():
            future.set_result(message)


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Nobody may be left to look at a reply that failed; asyncio would complain."""
    if not future.cancelled():
        future.exception()
