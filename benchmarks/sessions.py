"""Rows about the beginning of a session and about the death of its worker."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import grotto
from benchmarks.cells import CELL, run, session
from benchmarks.floors import forker
from benchmarks.kernel import Kernel, kernel
from benchmarks.measure import FLOOR, GROTTO, KERNEL, Arm, Arms, Bound, Row, timed
from benchmarks.serving import Backend, embedded

REFILL_S: dict[Backend, float] = {"local": 1.5, "docker": 4.0}
"""Before a sample: time for the warm pool to be full again. Not part of the sample."""
BINDS: dict[Backend, int] = {"local": 15, "docker": 10}
"""Samples."""
KILL = "import os\nos.kill(os.getpid(), 9)"


def first_cell_s(client: grotto.Client, limits: grotto.Limits | None = None) -> float:
    """Returns the seconds from before a new session until its first cell has finished."""
    begin = time.perf_counter()
    with client.session(limits=limits) as opened:
        run(opened, "x = 1")
        return time.perf_counter() - begin


@contextmanager
def _bind(backend: Backend) -> Iterator[Arms]:
    with embedded(backend) as client:

        def ours() -> float:
            time.sleep(REFILL_S[backend])
            return first_cell_s(client)

        yield {
            GROTTO: Arm(ours, BINDS[backend], 2),
            FLOOR: Arm(lambda: timed(_bare_python), BINDS[backend], 2),
            KERNEL: Arm(_start_a_kernel, BINDS[backend], 1),
        }


def _bare_python() -> None:
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)


def _start_a_kernel() -> float:
    peer = Kernel()
    try:
        return timed(peer.begin)
    finally:
        peer.stop()


@contextmanager
def _kill(backend: Backend) -> Iterator[Arms]:
    with ExitStack() as stack:
        ours = stack.enter_context(session(backend, policy="open"))
        floor = stack.enter_context(forker())
        peer = stack.enter_context(kernel())
        yield {
            GROTTO: Arm(lambda: _kill_and_go_on(ours), 30, 3),
            FLOOR: Arm(floor.fork_s, 30, 3),
            KERNEL: Arm(lambda: _kill_and_restart(peer), 10, 1),
        }


def _kill_and_go_on(ours: grotto.Session) -> float:
    run(ours, "x = 1")
    begin = time.perf_counter()
    killed = ours.execute(KILL)
    run(ours, CELL)
    elapsed_s = time.perf_counter() - begin
    if killed.outcome.value != "killed" or killed.state.value != "restored":
        raise RuntimeError(f"wanted killed and restored, got {killed.outcome}, {killed.state}")
    if ours.retrieve("x") != 2:
        raise RuntimeError("the namespace was not restored")
    return elapsed_s


def _kill_and_restart(peer: Kernel) -> float:
    begin = time.perf_counter()
    peer.kill()
    peer.restart()
    peer.execute("x = 1")
    return time.perf_counter() - begin


def rows(backend: Backend) -> list[Row]:
    """The rows of this module on a backend."""
    return [
        Row(
            "bind",
            "a new session from the warm pool, first cell included",
            partial(_bind, backend),
            (Bound(0.010),),
            note="floor column: `python -I -c pass` started and ended, for scale; no budget is "
            "held against it. ipykernel: a new kernel and its first cell",
        ),
        Row(
            "kill",
            "the worker kills itself, until the next cell has finished",
            partial(_kill, backend),
            (Bound(0.050),),
            note="includes the round trip of the cell that kills; the namespace is restored. "
            "Floor column: a bare `os.fork()` of an interpreter with IPython, numpy and pandas, "
            "for scale. ipykernel: a new kernel in place of the dead one; its namespace is lost",
        ),
    ]
