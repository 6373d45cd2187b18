"""Rows about one cell on a warm session."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import grotto
from benchmarks.floors import hops
from benchmarks.kernel import kernel
from benchmarks.measure import FLOOR, GROTTO, KERNEL, Arm, Arms, Bound, Row, timed
from benchmarks.serving import Backend, embedded

CELL = "x += 1"
BURST = 20
PAUSE_S = 0.02
"""Between two cells of the recovery row; what an agent's thinking would be, and far shorter."""


@contextmanager
def session(backend: Backend, policy: str = "standard") -> Iterator[grotto.Session]:
    """A session of a control plane of its own, with `x` bound."""
    with embedded(backend) as client, client.session(policy=policy) as opened:
        run(opened, "x = 0")
        yield opened


def run(opened: grotto.Session, source: str) -> None:
    """Executes a cell; raises unless it went well."""
    opened.execute(source).raise_if_failed()


@contextmanager
def _one_cell(backend: Backend) -> Iterator[Arms]:
    with ExitStack() as stack:
        ours = stack.enter_context(session(backend))
        floor = stack.enter_context(hops())
        peer = stack.enter_context(kernel())
        peer.execute("x = 0")
        yield {
            GROTTO: Arm(lambda: timed(lambda: run(ours, CELL)), 300, 30),
            FLOOR: Arm(lambda: timed(lambda: floor.execute(CELL.encode())), 300, 30),
            KERNEL: Arm(lambda: timed(lambda: peer.execute(CELL)), 300, 30),
        }


@contextmanager
def _on_and_off(backend: Backend) -> Iterator[tuple[grotto.Session, grotto.Session]]:
    """Two sessions of one control plane, with recovery and without."""
    with (
        embedded(backend) as client,
        client.session(recovery="auto") as on,
        client.session(recovery="off") as off,
    ):
        run(on, "x = 0")
        run(off, "x = 0")
        yield on, off


@contextmanager
def _recovery_cost(backend: Backend) -> Iterator[Arms]:
    with _on_and_off(backend) as (on, off):
        yield {
            GROTTO: Arm(_after_a_pause(on), 150, 10),
            FLOOR: Arm(_after_a_pause(off), 150, 10),
        }


def _after_a_pause(opened: grotto.Session) -> Callable[[], float]:
    def sample() -> float:
        time.sleep(PAUSE_S)
        return timed(lambda: run(opened, CELL))

    return sample


@contextmanager
def _recovery_cost_in_bursts(backend: Backend) -> Iterator[Arms]:
    with _on_and_off(backend) as (on, off):
        yield {GROTTO: Arm(_burst(on), 20, 2), FLOOR: Arm(_burst(off), 20, 2)}


def _burst(opened: grotto.Session) -> Callable[[], float]:
    def cells() -> None:
        for _ in range(BURST):
            run(opened, CELL)

    return lambda: timed(cells) / BURST


def rows(backend: Backend) -> list[Row]:
    """The rows of this module on a backend."""
    return [
        Row(
            "cell",
            f"`execute({CELL!r})` on a warm session",
            partial(_one_cell, backend),
            (Bound(1.5, FLOOR), Bound(0.6, KERNEL)),
            note="floor: two Python gRPC hops, server-stream of one message, same kind of facade",
        ),
        Row(
            "recovery",
            "the same, 20 ms between cells, automatic recovery points on",
            partial(_recovery_cost, backend),
            (Bound(1.15, FLOOR),),
            note="floor: the same run with recovery off",
        ),
        Row(
            "burst",
            f"the same, {BURST} cells back to back, each",
            partial(_recovery_cost_in_bursts, backend),
            note="floor: the same run with recovery off. No budget: a fork lies between two cells",
        ),
    ]
