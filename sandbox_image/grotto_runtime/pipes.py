"""The worker's stdout and stderr at descriptor level, read without ever blocking.

Output of an execution is read as it comes. What is written while nothing executes is
thrown away at a bounded rate: it must cost the daemon nothing, and yet a writer must not
stand still for long, for the interpreter flushes its streams between executions, too.
"""

import asyncio
import os
from collections.abc import Callable

READ_BYTES = 64 * 1024
MAX_DRAIN_BYTES = 4 * 1024 * 1024
REST_S = 0.05
"""Between two reads of what nobody wants: 1.3 MB/s."""


class OutputPipe:
    """The reading end of one pipe; what arrives goes to the sink attached to it."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._sink: Callable[[bytes], None] | None = None
        self._flowing = False
        self._rest: asyncio.TimerHandle | None = None

    def handed_over(self) -> None:
        """Closes our copy of the writing end, once the worker has its own."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def start(self) -> None:
        """Reads from now on, until the end of the output."""
        self._flowing = True
        self._listen()

    def attach(self, sink: Callable[[bytes], None] | None) -> None:
        """Sends output to `sink` from now on; None: it is thrown away.

        What was written before a sink came is none of its business, and thrown away, too.
        """
        self._sink = None
        if sink is not None:
            self.drain()
            self._sink = sink
            self._listen()

    def drain(self) -> None:
        """Takes what the pipe holds now; bounded, for a writer may never stop."""
        taken = 0
        while self._flowing and taken < MAX_DRAIN_BYTES:
            got = self._take()
            if not got:
                return
            taken += got

    def close(self) -> None:
        self.handed_over()
        self._stop()
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def _readable(self) -> None:
        self._take()
        if self._flowing and self._sink is None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._reader)
            self._rest = loop.call_later(REST_S, self._listen)

    def _take(self) -> int:
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._stop()
        elif self._sink is not None:
            self._sink(data)
        return len(data)

    def _listen(self) -> None:
        self._wake()
        if self._flowing:
            asyncio.get_running_loop().add_reader(self._reader, self._readable)

    def _wake(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _stop(self) -> None:
        self._wake()
        if self._flowing:
            self._flowing = False
            asyncio.get_running_loop().remove_reader(self._reader)
