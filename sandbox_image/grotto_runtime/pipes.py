"""The worker's stdout and stderr at descriptor level, read without ever blocking."""

import asyncio
import os
from collections.abc import Callable

READ_BYTES = 64 * 1024
MAX_DRAIN_BYTES = 4 * 1024 * 1024


class OutputPipe:
    """The reading end of one pipe; what arrives goes to `sink`."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._sink: Callable[[bytes], None] = _discard
        self._reading = False

    def handed_over(self) -> None:
        """Closes our copy of the writing end, once the worker has its own."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._reader, self._readable)
        self._reading = True

    def attach(self, sink: Callable[[bytes], None] | None) -> None:
        """Sends output to `sink` from now on; None: it is thrown away."""
        self._sink = sink or _discard

    def drain(self) -> None:
        """Takes what the pipe holds now; bounded, for a writer may never stop."""
        taken = 0
        while self._reading and taken < MAX_DRAIN_BYTES:
            got = self._readable()
            if not got:
                return
            taken += got

    def close(self) -> None:
        self.handed_over()
        self._stop()
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def _readable(self) -> int:
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._stop()
            return 0
        self._sink(data)
        return len(data)

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._reader)


def _discard(data: bytes) -> None:
    """Output of nobody's execution."""
