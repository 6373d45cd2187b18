"""Rows about numeric DataFrames on their way in and out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np
import pandas as pd

from benchmarks.cells import session
from benchmarks.floors import hops
from benchmarks.kernel import SILENCE_S, kernel
from benchmarks.measure import FLOOR, GROTTO, KERNEL, Arm, Arms, Bound, Row, timed

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


def _inject(size_mb: int) -> Callable[[], AbstractContextManager[Arms]]:
    @contextmanager
    def prepare() -> Iterator[Arms]:
        with ExitStack() as stack:
            ours = stack.enter_context(session())
            floor = stack.enter_context(hops())
            peer = stack.enter_context(kernel())
            table = frame(size_mb)
            raw = memoryview(np.ascontiguousarray(table.to_numpy())).cast("B")
            samples = SAMPLES[size_mb]
            yield {
                GROTTO: Arm(lambda: timed(lambda: ours.inject("frame", table)), samples, 2),
                FLOOR: Arm(lambda: timed(lambda: floor.put(raw)), samples, 2),
                KERNEL: Arm(
                    lambda: timed(lambda: peer.inject("frame", table)), KERNEL_SAMPLES[size_mb]
                ),
            }

    return prepare


def _retrieve(size_mb: int) -> Callable[[], AbstractContextManager[Arms]]:
    @contextmanager
    def prepare() -> Iterator[Arms]:
        with ExitStack() as stack:
            ours = stack.enter_context(session())
            floor = stack.enter_context(hops())
            peer = stack.enter_context(kernel())
            table = frame(size_mb)
            ours.inject("frame", table)
            if not table.equals(ours.retrieve("frame")):
                raise RuntimeError("the DataFrame did not come back as it went in")
            peer.execute(_made_in_place(table))
            samples = SAMPLES[size_mb]
            yield {
                GROTTO: Arm(lambda: timed(lambda: ours.retrieve("frame")), samples, 2),
                FLOOR: Arm(lambda: timed(lambda: floor.get(size_mb * MB)), samples, 2),
                KERNEL: Arm(lambda: timed(lambda: peer.retrieve("frame")), KERNEL_SAMPLES[size_mb]),
            }

    return prepare


def _made_in_place(table: pd.DataFrame) -> str:
    """Source that makes a like frame in the kernel, where injecting it would not end."""
    return (
        "import numpy, pandas\n"
        f"frame = pandas.DataFrame(numpy.random.default_rng(0).random({table.shape}))"
    )


def _rows(size_mb: int) -> list[Row]:
    bounds = (Bound(1 / 0.8, FLOOR),) if size_mb == 100 else ()
    size_bytes = size_mb * MB
    return [
        Row(
            f"inject-{size_mb}",
            f"`inject` of a {size_mb} MB numeric DataFrame",
            _inject(size_mb),
            bounds,
            size_bytes,
            note="floor: the raw bytes over the same two streamed hops. ipykernel: dill in base64 "
            f"as source text; its client gives up after {SILENCE_S:.0f} s of silence",
        ),
        Row(
            f"retrieve-{size_mb}",
            f"`retrieve` of a {size_mb} MB numeric DataFrame",
            _retrieve(size_mb),
            bounds,
            size_bytes,
            note="floor: the raw bytes back over the same two streamed hops, into one buffer. "
            "ipykernel: dill in base64 as a display, unpickled at the client",
        ),
    ]


ROWS = [row for size_mb in SAMPLES for row in _rows(size_mb)]
