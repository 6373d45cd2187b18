"""Sealed memory for values on their way through the daemon.

In: filled here, sealed, handed to the worker, which maps it. Out: made here and lent to
the worker, which cannot grow it. The daemon reads it by copying and takes no meaning from
it, so a worker that goes on writing changes bytes and nothing else; `reclaim` then gives
the memory back, whatever descriptors the worker has kept.
"""

import fcntl
import os
from collections.abc import Iterator

CHUNK_BYTES = 1024 * 1024
_ALL = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class SealedMemory:
    """One memfd. `close` releases it; what the worker mapped lives on in the worker."""

    def __init__(self, size_bytes: int) -> None:
        self.descriptor = os.memfd_create("value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.size_bytes = size_bytes
        self._filled = 0
        os.ftruncate(self.descriptor, size_bytes)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)

    @property
    def room_bytes(self) -> int:
        return self.size_bytes - self._filled

    def append(self, chunk: bytes) -> None:
        """Adds a chunk that must fit `room_bytes`."""
        view = memoryview(chunk)
        while view:
            written = os.pwrite(self.descriptor, view, self._filled)
            view = view[written:]
            self._filled += written

    def seal(self) -> bool:
        """Makes it read-only for good; False while somebody maps it for writing."""
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _ALL)
        except OSError:
            return False
        return fcntl.fcntl(self.descriptor, fcntl.F_GET_SEALS) & _ALL == _ALL

    def chunks(self, size_bytes: int) -> Iterator[bytes]:
        """Yields the first `size_bytes` in bounded chunks."""
        position = 0
        while position < size_bytes:
            chunk = os.pread(self.descriptor, min(CHUNK_BYTES, size_bytes - position), position)
            if not chunk:
                return
            position += len(chunk)
            yield chunk

    def reclaim(self) -> None:
        """Frees the memory of one that was lent out, and closes it; it cannot grow again."""
        os.ftruncate(self.descriptor, 0)
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)
