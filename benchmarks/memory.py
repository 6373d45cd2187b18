"""The row about the memory of an idle session.

Proportional set size: a page that several processes map counts in parts, so the sum
over the processes of one sandbox is what that sandbox costs.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.cells import run, session
from benchmarks.kernel import kernel
from benchmarks.measure import GROTTO, KERNEL, Arm, Arms, Bound, Row

MB = 10**6
SETTLE_S = 2.0
"""Until the recovery point is taken and the warm pool is full again."""


@contextmanager
def _idle() -> Iterator[Arms]:
    with session() as ours, kernel() as peer:
        run(ours, "import numpy, pandas")
        peer.execute("import numpy, pandas, os")
        time.sleep(SETTLE_S)
        yield {
            GROTTO: Arm(lambda: float(max(pss_bytes(pid) for pid in _daemons())), 3),
            KERNEL: Arm(lambda: float(pss_bytes(peer.pid)), 3),
        }


def _daemons() -> list[int]:
    """Returns the pids of the sandboxes' daemons below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        parent = process.parent()
        if _runs(process, "grotto_runtime") and parent and _runs(parent, "grotto_control"):
            found.append(process.pid)
    return found


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except psutil.Error:
        return False


def pss_bytes(pid: int) -> int:
    """Returns the proportional set size of a process and all below it.

    Raises PermissionError for the processes of a sandbox unless asked as root: they are
    not dumpable.
    """
    root = psutil.Process(pid)
    return sum(_own_pss_bytes(process.pid) for process in [root, *root.children(recursive=True)])


def _own_pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except ProcessLookupError:  # it has ended, and holds nothing
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


ROWS = [
    Row(
        "memory",
        "memory of one idle session with numpy and pandas loaded (PSS)",
        _idle,
        (Bound(130.0 * MB),),
        unit="bytes",
        note="all processes of the sandbox: daemon, checker, zygote, worker, recovery point. An "
        "idle sandbox of the warm pool shares pages with it. ipykernel: with the same imports",
    )
]
