"""Rows about the beginning of a session and about the death of its worker."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import grotto
from benchmarks.cells import CELL, run, session
from benchmarks.floors import forker
from benchmarks.kernel import Kernel, kernel
from benchmarks.measure import FLOOR, GROTTO, KERNEL, Arm, Arms, Bound, Row, timed

REFILL_S = 1.5
"""Before a sample: time for the warm pool to be full again. Not part of the sample."""
KILL = "import os\nos.kill(os.getpid(), 9)"


@contextmanager
def _bind() -> Iterator[Arms]:
    with closing(grotto.local()) as client:

        def ours() -> float:
            time.sleep(REFILL_S)
            begin = time.perf_counter()
            with client.session() as opened:
                run(opened, "x = 1")
                return time.perf_counter() - begin

        yield {
            GROTTO: Arm(ours, 15, 2),
            FLOOR: Arm(lambda: timed(_bare_python), 15, 2),
            KERNEL: Arm(_start_a_kernel, 15, 1),
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
def _kill() -> Iterator[Arms]:
    with ExitStack() as stack:
        ours = stack.enter_context(session(policy="open"))
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


ROWS = [
    Row(
        "bind",
        "a new session from the warm pool, first cell included",
        _bind,
        (Bound(0.010),),
        note="floor column: `python -I -c pass` started and ended, for scale; no budget is held "
        "against it. ipykernel: a new kernel and its first cell",
    ),
    Row(
        "kill",
        "the worker kills itself, until the next cell has finished",
        _kill,
        (Bound(0.050),),
        note="includes the round trip of the cell that kills; the namespace is restored. Floor "
        "column: a bare `os.fork()` of an interpreter with IPython, numpy and pandas, for scale. "
        "ipykernel: a new kernel in place of the dead one; its namespace is lost",
    ),
]
