"""Rows about numeric DataFrames on their way in and out."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.cells import session
from benchmarks.floors import hops
from benchmarks.kernel import SILENCE_S, Kernel, kernel
from benchmarks.measure import FLOOR, GROTTO, KERNEL, Arm, Arms, Bound, Row, timed
from benchmarks.serving import Backend

COLUMNS = 10
MB = 10**6
SAMPLES = {1: 40, 10: 20, 100: 7}
"""By size in MB."""
KERNEL_SAMPLES = {1: 5, 10: 2, 100: 1}
"""Of the peer, whose injection takes seconds per 10 MB."""


def frame(size_mb: int) -> pd.DataFrame:
    """A DataFrame of float64 columns with that many MB of data."""
    rows = size_mb * MB // (8 * COLUMNS)
    data = np.random.default_rng(size_mb).random((rows, COLUMNS))
    return pd.DataFrame(data, columns=[f"c{i}" for i in range(COLUMNS)])


@contextmanager
def _inject(backend: Backend, size_mb: int) -> Iterator[Arms]:
    with ExitStack() as stack:
        ours = stack.enter_context(session(backend))
        floor = stack.enter_context(hops())
        peer = _peer(stack, backend)
        table = frame(size_mb)
        raw = memoryview(np.ascontiguousarray(table.to_numpy())).cast("B")
        arms = {
            GROTTO: Arm(lambda: timed(lambda: ours.inject("frame", table)), SAMPLES[size_mb], 2),
            FLOOR: Arm(lambda: timed(lambda: floor.put(raw)), SAMPLES[size_mb], 2),
        }
        if peer:
            sample = partial(timed, partial(peer.inject, "frame", table))
            arms[KERNEL] = Arm(sample, KERNEL_SAMPLES[size_mb])
        yield arms


@contextmanager
def _retrieve(backend: Backend, size_mb: int) -> Iterator[Arms]:
    with ExitStack() as stack:
        ours = stack.enter_context(session(backend))
        floor = stack.enter_context(hops())
        peer = _peer(stack, backend)
        table = frame(size_mb)
        ours.inject("frame", table)
        if not table.equals(ours.retrieve("frame")):
            raise RuntimeError("the DataFrame did not come back as it went in")
        arms = {
            GROTTO: Arm(lambda: timed(lambda: ours.retrieve("frame")), SAMPLES[size_mb], 2),
            FLOOR: Arm(lambda: timed(lambda: floor.get(size_mb * MB)), SAMPLES[size_mb], 2),
        }
        if peer:
            peer.execute(_made_in_place(table))
            sample = partial(timed, partial(peer.retrieve, "frame"))
            arms[KERNEL] = Arm(sample, KERNEL_SAMPLES[size_mb])
        yield arms


def _peer(stack: ExitStack, backend: Backend) -> Kernel | None:
    """The peer is slow, and the same whatever ours runs on: it is measured once."""
    return stack.enter_context(kernel()) if backend == "local" else None


def _made_in_place(table: pd.DataFrame) -> str:
    """Source that makes a like frame in the kernel, where injecting it would not end."""
    return (
        "import numpy, pandas\n"
        f"frame = pandas.DataFrame(numpy.random.default_rng(0).random({table.shape}))"
    )


def rows(backend: Backend) -> list[Row]:
    """The rows of this module on a backend."""
    return [row for size_mb in SAMPLES for row in _rows(backend, size_mb)]


def _rows(backend: Backend, size_mb: int) -> list[Row]:
    bounds = (Bound(1 / 0.8, FLOOR),) if size_mb == 100 else ()
    size_bytes = size_mb * MB
    into = (
        ". ipykernel: dill in base64 as source text; its client gives up after "
        f"{SILENCE_S:.0f} s of silence"
    )
    back = ". ipykernel: dill in base64 as a display, unpickled at the client"
    has_peer = backend == "local"
    return [
        Row(
            f"inject-{size_mb}",
            f"`inject` of a {size_mb} MB numeric DataFrame",
            partial(_inject, backend, size_mb),
            bounds,
            size_bytes,
            note="floor: the raw bytes over the same two streamed hops" + into * has_peer,
        ),
        Row(
            f"retrieve-{size_mb}",
            f"`retrieve` of a {size_mb} MB numeric DataFrame",
            partial(_retrieve, backend, size_mb),
            bounds,
            size_bytes,
            note="floor: the raw bytes back over the same two streamed hops, into one buffer"
            + back * has_peer,
        ),
    ]
