"""Frames between the daemon and the processes it owns (zygote, worker, checker).

A frame is an 8-byte header (payload length, number of descriptors, zero), then a
msgpack-encoded message. Descriptors ride on the header's first byte by SCM_RIGHTS.
Every message carries the id of the request it belongs to, so both ends can have
several in flight. What a worker sends is hostile: lengths are capped before
anything is allocated, unknown messages are errors, surplus descriptors are closed.
"""

import array
import os
import socket
import struct
from typing import Any

import msgspec

HEADER = struct.Struct("!IHH")
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_DESCRIPTORS = 4
MAX_BUNDLE_BYTES = 3 * 1024 * 1024
"""Of one display or result; a larger one is dropped whole, and counted."""

_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)


class FrameError(Exception):
    """The peer sent something that is not a frame of this protocol."""


class Closed(Exception):
    """The peer closed its end."""


# ---- daemon to zygote -------------------------------------------------------


class Prepare(msgspec.Struct, tag=True, frozen=True):
    """First frame to a zygote: harden yourself, then import `preload`."""

    id: int
    level: str
    read_paths: list[str]
    write_paths: list[str]
    device_paths: list[str]
    preload: list[str]


class Spawn(msgspec.Struct, tag=True, frozen=True):
    """Fork a worker. Descriptors: its channel, stdout, stderr."""

    id: int


# ---- daemon to worker -------------------------------------------------------


class Configure(msgspec.Struct, tag=True, frozen=True):
    """What a session fixes for its workers; the first frame to one from the zygote.

    Sizes in bytes.
    """

    id: int
    env: dict[str, str]
    workspace: str
    memory_bytes: int
    pids: int
    cpus: float


class Execute(msgspec.Struct, tag=True, frozen=True):
    id: int
    source: str
    max_output_bytes: int


class Put(msgspec.Struct, tag=True, frozen=True):
    """Decode the envelope in the memfd that comes along and bind its items, all or none."""

    id: int
    names: list[str]
    descriptions: dict[str, str]
    size_bytes: int


class Get(msgspec.Struct, tag=True, frozen=True):
    """Encode a tuple of the named values into the memfd that comes along."""

    id: int
    names: list[str]
    max_bytes: int


class Describe(msgspec.Struct, tag=True, frozen=True):
    id: int


class Delete(msgspec.Struct, tag=True, frozen=True):
    id: int
    names: list[str]


class Freeze(msgspec.Struct, tag=True, frozen=True):
    """Fork a frozen copy. Descriptors: the copy's channel, stdout, stderr."""

    id: int


class Thaw(msgspec.Struct, tag=True, frozen=True):
    """To a frozen copy: be the live worker from now on."""

    id: int


# ---- worker to daemon -------------------------------------------------------


class Hello(msgspec.Struct, tag=True, frozen=True):
    """First frame of a new process on its own channel; its credentials name the pid."""

    id: int = 0
    layers: list[str] = []
    missing: list[str] = []


class Display(msgspec.Struct, tag=True, frozen=True):
    id: int
    data: dict[str, bytes]


class Problem(msgspec.Struct, frozen=True):
    """An exception that tenant code raised."""

    name: str
    message: str
    traceback: str
    line: int


class Executed(msgspec.Struct, tag=True, frozen=True):
    """The execution has ended; with it comes what its last expression was worth."""

    id: int
    problem: Problem | None
    result: dict[str, bytes] | None
    interrupted: bool
    dropped_bytes: int


class VariableInfo(msgspec.Struct, frozen=True):
    name: str
    type: str
    size_bytes: int
    preview: str
    description: str
    origin: str
    signature: str
    doc: str


class Done(msgspec.Struct, tag=True, frozen=True):
    """A request other than Execute succeeded."""

    id: int
    size_bytes: int = 0
    variables: list[VariableInfo] = []
    layers: list[str] = []


class Failed(msgspec.Struct, tag=True, frozen=True):
    """A request other than Execute failed; `reason` is one of REASONS."""

    id: int
    reason: str
    message: str
    hint: str = ""


REASONS = frozenset(
    {"not_found", "invalid_argument", "untransferable", "value_too_large", "version_mismatch"}
)

ToZygote = Prepare | Spawn
ToWorker = Configure | Execute | Put | Get | Describe | Delete | Freeze | Thaw
FromWorker = Hello | Display | Executed | Done | Failed


def encode(message: Any, descriptors: int = 0) -> bytes:
    """Returns header and payload of one message."""
    payload = msgspec.msgpack.encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(payload)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return HEADER.pack(len(payload), descriptors, 0) + payload


def parse_header(header: bytes) -> tuple[int, int]:
    """Returns (payload length, number of descriptors); raises FrameError on a bad header."""
    length, descriptors, zero = HEADER.unpack(header)
    if length > MAX_FRAME_BYTES or descriptors > MAX_DESCRIPTORS or zero:
        raise FrameError("bad frame header")
    return length, descriptors


def decode(payload: bytes, kind: Any) -> Any:
    """Returns the message, one of the union `kind`; raises FrameError on anything else."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FrameError(f"bad frame: {error}") from error


class Channel:
    """The blocking end of a socketpair, as zygote, worker and checker use it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()
        self._drop()

    def send(self, message: Any) -> None:
        """Sends one message; blocks while the peer does not read."""
        self._sock.sendall(encode(message))

    def receive(self, kind: Any) -> tuple[Any, list[int]]:
        """Returns the next message and its descriptors; raises Closed at the end."""
        length, count = parse_header(self._read(HEADER.size))
        message = decode(self._read(length), kind)
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        self._drop()
        if len(taken) != count:
            _close_all(taken)
            raise FrameError(f"{count} descriptors announced, {len(taken)} came")
        return message, taken

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk, ancillary, _, _ = self._sock.recvmsg(
                size - len(data), _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
            self._descriptors += descriptors_in(ancillary)
            if not chunk:
                raise Closed
            data += chunk
        return bytes(data)

    def _drop(self) -> None:
        _close_all(self._descriptors)
        self._descriptors = []


def descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """Returns the descriptors that came with a message, close-on-exec as the kernel gave them."""
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
