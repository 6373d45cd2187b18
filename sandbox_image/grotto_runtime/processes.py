"""What the kernel tells of the processes below the daemon: tree, CPU time, memory, death."""

import contextlib
import os
import signal
import time
from collections import OrderedDict
from dataclasses import dataclass

_CPUCLOCK_PROCESS = 2
MAX_STATUSES = 64
_ENDED = (b"Z", b"X")
_MEMORY_FIELDS = (b"RssAnon", b"RssShmem", b"RssFile", b"VmPTE", b"VmHWM")


@dataclass(frozen=True)
class Memory:
    """Of one process, in bytes: anonymous and shared memory and page tables, not mapped files."""

    current_bytes: int
    peak_bytes: int


def descendants(root: int) -> set[int]:
    """Returns the pids of all processes below `root` that have not ended."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                ended, parent = _ended_and_parent(int(entry))
                if not ended:
                    children.setdefault(parent, []).append(int(entry))
    found: set[int] = set()
    pending = [root]
    while pending:
        for child in children.get(pending.pop(), []):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def _ended_and_parent(pid: int) -> tuple[bool, int]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The command name may hold anything, also ")"; the fields follow the last one.
        fields = file.read(4096).rpartition(b")")[2].split()
    # A process whose first thread has ended looks like a zombie while the others run.
    return fields[0] in _ENDED and int(fields[17]) <= 1, int(fields[1])


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its threads, exact to the nanosecond; 0 when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_PROCESS)
    except OSError:
        return 0.0


def cpu_with_children_s(pid: int) -> float:
    """The same, with the children it has waited for; theirs to a hundredth of a second."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        return cpu_s(pid) + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def memory(pid: int) -> Memory:
    """Returns what a process holds now and at its peak; zeros when it is gone."""
    fields: dict[bytes, int] = {}
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file.read(8192).splitlines():
            name, _, value = line.partition(b":")
            if name in _MEMORY_FIELDS:
                fields[name] = int(value.split()[0]) * 1024
    own = sum(fields.get(name, 0) for name in (b"RssAnon", b"RssShmem", b"VmPTE"))
    peak = fields.get(b"VmHWM", 0) - fields.get(b"RssFile", 0)
    return Memory(own, max(own, peak))


def kill(pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Signals a process; one that is gone needs no signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal_number)


@dataclass(frozen=True)
class Ended:
    """Wait status (None: unknown) and the CPU seconds a process had used."""

    status: int | None
    cpu_s: float

    def __str__(self) -> str:
        if self.status is None:
            return "the interpreter ended"
        if not os.WIFSIGNALED(self.status):
            code = os.waitstatus_to_exitcode(self.status)
            return f"the interpreter exited with status {code}"
        number = os.WTERMSIG(self.status)
        names = {member.value: member.name for member in signal.Signals}
        return f"the interpreter was ended by {names.get(number, f'signal {number}')}"


class Reaper:
    """Collects ended children, whoever asks first, and keeps their wait statuses."""

    def __init__(self) -> None:
        self._ended: OrderedDict[int, Ended] = OrderedDict()
        self.cpu_s = 0.0
        """CPU seconds of everything collected so far."""

    def collect(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    break
                self._ended[pid] = Ended(status, used.ru_utime + used.ru_stime)
                self.cpu_s += self._ended[pid].cpu_s
        while len(self._ended) > MAX_STATUSES:
            self._ended.popitem(last=False)

    def ended(self, pid: int) -> Ended:
        """Returns and forgets how a child ended; unknown if it was nobody's here."""
        self.collect()
        return self._ended.pop(pid, Ended(None, 0.0))
