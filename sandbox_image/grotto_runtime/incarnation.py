"""One process that is, or may become, the live worker: its channel, pipes and death.

Death is learnt from its pidfd, never from the channel: a copy may hold the
other end open.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from grotto_runtime import processes
from grotto_runtime.channel import DaemonChannel, pair
from grotto_runtime.pipes import OutputPipe


class Incarnation:
    """Made before the process is; `born` once its first frame names its pid."""

    def __init__(self, reaper: processes.Reaper) -> None:
        ours, self._theirs = pair()
        self.channel = DaemonChannel(ours, self._frame)
        self.on_frame: Callable[[Any], None] = _ignore
        """Gets the frames that answer no request."""
        self.stdout = OutputPipe()
        self.stderr = OutputPipe()
        self.exited: asyncio.Future[processes.Ended] = asyncio.get_running_loop().create_future()
        self.pid = 0
        self.peak_bytes = 0
        """High-water mark of its memory after the last execution."""
        self._reaper = reaper
        self._pidfd = -1

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """What the process gets: channel, stdout, stderr."""
        return self._theirs.fileno(), self.stdout.writer, self.stderr.writer

    def handed_over(self) -> None:
        """Closes our copies of what the process got."""
        self._theirs.close()
        self.stdout.handed_over()
        self.stderr.handed_over()

    def born(self) -> None:
        """Takes the pid the kernel vouched for and watches for its end."""
        self.pid = self.channel.peer_pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._on_exit()
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    def start_reading(self) -> None:
        self.stdout.start()
        self.stderr.start()

    def drain(self) -> None:
        self.stdout.drain()
        self.stderr.drain()

    def kill(self) -> None:
        if self.pid and not self.exited.done():
            processes.kill(self.pid)

    def close(self) -> None:
        """Releases everything of ours; the process, if it lives, is killed."""
        self.kill()
        self._theirs.close()
        self.channel.close()
        self.stdout.close()
        self.stderr.close()
        self._unwatch()

    def _frame(self, message: Any) -> None:
        self.on_frame(message)

    def _on_exit(self) -> None:
        self._unwatch()
        if not self.exited.done():
            self.exited.set_result(self._reaper.ended(self.pid))

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ValueError):
                asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _ignore(message: Any) -> None:
    """A frame of no execution."""
