"""Takes samples of several arms in turn and sums them up.

The arms of a row alternate (A B C A B C), so that what the machine does meanwhile
falls on all of them alike. Figures are medians; ratios are of medians.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

GROTTO, FLOOR, KERNEL = "grotto", "floor", "ipykernel"
"""The names of the arms: what is measured, what it is held against, its peer."""


class Absent(Exception):
    """This machine lacks what a row needs; the message says what."""


@dataclass(frozen=True)
class Arm:
    """One thing to measure: each call of `sample` returns seconds, or bytes in a memory row."""

    sample: Callable[[], float]
    samples: int
    warm_ups: int = 0
    remark: str = ""
    """What this machine made of the arm, for the notes."""


Arms = Mapping[str, Arm]


@dataclass(frozen=True)
class Bound:
    """A budget: at most `limit` times the arm `against`, or at most `limit` seconds or bytes."""

    limit: float
    against: str = ""
    is_excess: bool = False
    """At most `limit` seconds or bytes more than the arm `against`."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    what: str
    prepare: Callable[[], AbstractContextManager[Arms]]
    """Sets up what the arms need and takes it down again."""
    bounds: tuple[Bound, ...] = ()
    payload_bytes: int = 0
    """Of one sample, for rows whose figure is also a throughput."""
    unit: str = "s"
    """`s` or `bytes`."""
    note: str = ""
    """What the columns stand for here, and what a reader must know of them."""


@dataclass(frozen=True)
class Summary:
    """One arm's samples in figures; no figures but an error when it failed."""

    samples: int = 0
    median: float = math.nan
    p90: float = math.nan
    least: float = math.nan
    error: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Result:
    """What a row came to."""

    row: Row
    arms: dict[str, Summary] = field(default_factory=dict)
    error: str = ""
    is_absent: bool = False
    """What the row needs is not on this machine."""

    def ratio(self, against: str) -> float:
        """The median of Grotto over that of another arm; NaN where one has none."""
        return self._median(GROTTO) / self._median(against)

    def value(self, bound: Bound) -> float:
        """The figure that a bound limits."""
        if bound.is_excess:
            return self._median(GROTTO) - self._median(bound.against)
        return self.ratio(bound.against) if bound.against else self._median(GROTTO)

    def met(self, bound: Bound) -> bool:
        """False also when there is no figure."""
        return self.value(bound) <= bound.limit

    @property
    def failed(self) -> bool:
        """True when the row or an arm of ours failed.

        A peer's failure is a finding, and so is what this machine lacks.
        """
        ours = (self.arms.get(name, Summary()) for name in (GROTTO, FLOOR))
        return bool(self.error and not self.is_absent) or any(summary.error for summary in ours)

    def _median(self, name: str) -> float:
        return self.arms.get(name, Summary()).median


def timed(act: Callable[[], object]) -> float:
    """Returns the seconds `act` took."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def measure(row: Row) -> Result:
    """Measures one row. An error in it is part of the result, so that the next row runs."""
    try:
        with row.prepare() as arms:
            return Result(row, _alternate(arms))
    except Absent as error:
        return Result(row, error=str(error), is_absent=True)
    except Exception as error:
        return Result(row, error=_sentence(error))


def _alternate(arms: Arms) -> dict[str, Summary]:
    taken: dict[str, list[float]] = {name: [] for name in arms}
    errors: dict[str, str] = {}
    for name, arm, counts in _turns(arms):
        if name in errors:
            continue
        try:
            value = arm.sample()
        except Exception as error:
            errors[name] = _sentence(error)
            continue
        if counts:
            taken[name].append(value)
    return {
        name: replace(summarise(taken[name], errors.get(name, "")), remark=arm.remark)
        for name, arm in arms.items()
    }


def _turns(arms: Arms) -> Iterator[tuple[str, Arm, bool]]:
    """Yields (name, arm, whether the sample counts), warm-ups first, arm after arm in turn."""
    for counts in (False, True):
        wanted = {name: arm.samples if counts else arm.warm_ups for name, arm in arms.items()}
        for turn in range(max(wanted.values(), default=0)):
            for name, arm in arms.items():
                if turn < wanted[name]:
                    yield name, arm, counts


def summarise(values: list[float], error: str) -> Summary:
    """Returns the figures of one arm's samples."""
    if error or not values:
        return Summary(error=error or "no samples")
    ordered = sorted(values)
    p90 = ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)]
    return Summary(len(ordered), statistics.median(ordered), p90, ordered[0])


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:300]}"
