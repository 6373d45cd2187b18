"""Cuts outgoing bytes into bounded chunks and gathers incoming ones into one bounded buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from grotto.errors import GrottoError, ValueTooLargeError

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far a transfer is. `kind`: "inject", "retrieve", "upload" or "download"."""

    kind: str
    name: str
    done_bytes: int
    total_bytes: int


OnTransfer = Callable[[Transfer], None]


def chunks(segments: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """Yields the segments' concatenation in chunks of CHUNK_BYTES, the last one shorter."""
    pending = bytearray()
    for segment in segments:
        view = memoryview(segment).cast("B")
        start = 0
        while start < len(view):
            taken = view[start : start + CHUNK_BYTES - len(pending)]
            start += len(taken)
            if len(taken) == CHUNK_BYTES:
                yield bytes(taken)
                continue
            pending += taken
            if len(pending) == CHUNK_BYTES:
                yield bytes(pending)
                pending.clear()
    if pending:
        yield bytes(pending)


class Gathering:
    """One incoming value of an announced size; raises as soon as the sender breaks its word."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        if size_bytes > max_bytes:
            raise ValueTooLargeError(
                f"The value has {size_bytes:,} bytes; the limit is {max_bytes:,}.",
                hint="Retrieve a part or a summary of it, or raise limits.value_bytes.",
            )
        self._buffer = memoryview(bytearray(size_bytes))
        self.size_bytes = size_bytes
        self.done_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Appends a chunk; raises GrottoError when more comes than was announced."""
        end = self.done_bytes + len(chunk)
        if end > len(self._buffer):
            raise GrottoError("The sandbox sent more bytes than it had announced.")
        self._buffer[self.done_bytes : end] = chunk
        self.done_bytes = end

    def complete(self) -> memoryview:
        """Returns the writable buffer; raises GrottoError when less came than was announced."""
        if self.done_bytes != len(self._buffer):
            raise GrottoError(
                f"The transfer was cut: {self.done_bytes:,} of {len(self._buffer):,} bytes came."
            )
        return self._buffer
