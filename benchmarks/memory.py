"""The rows about the memory of an idle session.

Proportional set size: a page that several processes map counts in parts, so the sum
over the processes of one sandbox is what that sandbox costs.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil

from benchmarks.cells import run
from benchmarks.engine import engine
from benchmarks.kernel import kernel
from benchmarks.measure import GROTTO, KERNEL, Arm, Arms, Bound, Row
from benchmarks.serving import Backend, Served, serving

MB = 10**6
SETTLE_S = 2.0
"""Until the recovery point is taken and the warm pool is full again."""
WITH_PANDAS, BARE = "import numpy, pandas", "x = 1"


@contextmanager
def _idle(backend: Backend, image: str, cell: str) -> Iterator[Arms]:
    with ExitStack() as stack:
        served = stack.enter_context(serving(backend, image=image))
        ours = stack.enter_context(served.client.session())
        run(ours, cell)
        arms = {GROTTO: Arm(lambda: float(max(map(pss_bytes, _daemons(backend, served)))), 3)}
        if backend == "local":
            peer = stack.enter_context(kernel())
            peer.execute("import os\n" + cell)
            arms[KERNEL] = Arm(lambda: float(pss_bytes(peer.pid)), 3)
        time.sleep(SETTLE_S)
        yield arms


def _daemons(backend: Backend, served: Served) -> list[int]:
    """Returns the pids of the daemons of a control plane's sandboxes."""
    if backend == "docker":
        with engine() as opened:
            return opened.pids(served.server_id())
    found = []
    for process in psutil.Process(served.pid).children(recursive=True):
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


def rows(backend: Backend) -> list[Row]:
    """The rows of this module on a backend."""
    note = (
        "all processes of the sandbox: daemon, checker, zygote, worker, recovery point. An "
        "idle sandbox of the warm pool shares pages with it"
    )
    with_pandas = Row(
        "memory",
        "memory of one idle session with numpy and pandas loaded (PSS)",
        partial(_idle, backend, "data", WITH_PANDAS),
        (Bound(130.0 * MB),),
        unit="bytes",
        note=note + (". ipykernel: with the same imports" if backend == "local" else ""),
    )
    if backend == "local":
        return [with_pandas]
    bare = Row(
        "memory-bare",
        "memory of one idle session of the bare image (PSS)",
        partial(_idle, backend, "bare", BARE),
        (Bound(60.0 * MB),),
        unit="bytes",
        note=note,
    )
    return [with_pandas, bare]
