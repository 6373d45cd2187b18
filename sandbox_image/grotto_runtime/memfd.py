"""Sealed memory for values on their way through the daemon.

In: filled here, sealed, handed to the worker. Out: made here with a fixed size
that the worker can neither grow nor shrink, sealed against writing before it is read.
"""

import fcntl
import os
from collections.abc import Iterator

CHUNK_BYTES = 1024 * 1024
_FIXED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_ALL = _FIXED | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class SealedMemory:
    """One memfd. `close` releases it; what the worker mapped lives on in the worker."""

    def __init__(self, size_bytes: int) -> None:
        self.descriptor = os.memfd_create("value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.size_bytes = size_bytes
        self._filled = 0
        os.ftruncate(self.descriptor, size_bytes)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _FIXED)

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

    def close(self) -> None:
        os.close(self.descriptor)
