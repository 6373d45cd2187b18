"""The processes of tenant code: the live worker and whatever it started, orphans included.

They are told by descent: everything below the daemon that is neither its own nor a
frozen copy. What they cost is summed over all of them.
"""

import os
from collections.abc import Callable

from grotto_runtime import processes
from grotto_runtime.processes import Reaper


class Tree:
    """Looks at the kernel's list each time it is asked."""

    def __init__(self, own_pids: Callable[[], set[int]], reaper: Reaper) -> None:
        self._own_pids = own_pids
        self._reaper = reaper
        self._ended_before_s = reaper.cpu_s
        self.frozen_pid = 0
        """The recovery point, which does nothing; 0: there is none."""

    def pids(self) -> set[int]:
        return processes.descendants(os.getpid()) - self._own_pids() - {self.frozen_pid}

    def held(self) -> tuple[int, int]:
        """Returns (bytes held, number of processes)."""
        return _held(self.pids())

    def held_with_copy(self) -> tuple[int, int]:
        """The same, the frozen copy included."""
        return _held(self.pids() | ({self.frozen_pid} if self.frozen_pid else set()))

    def cpu_s(self) -> float:
        """CPU seconds since the session was bound, of processes that have ended, too."""
        running = sum(processes.cpu_with_children_s(pid) for pid in self.pids())
        return running + self._reaper.cpu_s - self._ended_before_s

    def end(self) -> None:
        """Kills them all."""
        for pid in self.pids():
            processes.kill(pid)


def _held(pids: set[int]) -> tuple[int, int]:
    return sum(processes.memory(pid).current_bytes for pid in pids), len(pids)
