"""Limits of a session or of one execution: parsing, validation, and their wire form."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from grotto.errors import InvalidArgumentError
from grotto_proto.v1 import execution_pb2, sessions_pb2

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)
_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_MAX_BYTES = 2**60
_MAX_PIDS = 2**22
_MAX_NUMBER = 1e9


def parse_size(value: int | str, what: str = "size") -> int:
    """Returns a size in bytes from an int, or from text such as "512MiB" or "2 GB".

    Raises InvalidArgumentError, which names `what`, for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        unit = _UNITS.get(match[2].lower())
        if unit is None:
            raise InvalidArgumentError(
                f"{what}={value!r} has an unknown unit.",
                hint="Use B, KB, MB, GB, TB, KiB, MiB, GiB or TiB.",
            )
        size = int(float(match[1]) * unit)
    else:
        raise InvalidArgumentError(
            f'{what}={value!r} is no size: give a number of bytes, or text such as "512MiB".'
        )
    if not 1 <= size <= _MAX_BYTES:
        raise InvalidArgumentError(
            f"{what}={value!r} is out of range: between 1 byte and {_MAX_BYTES} bytes."
        )
    return size


def check_seconds(value: float, what: str) -> float:
    """Returns a duration in seconds; raises InvalidArgumentError unless positive and finite."""
    return _number(value, what, "seconds")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a session; `None` leaves the server's default.

    `cpus` in cores, `memory`, `disk`, `output_bytes`, `value_bytes` in bytes or text
    such as "512MiB" (kept as bytes), `wall_s` and `cpu_s` in seconds per execution.
    `Session.execute(limits=)` may lower wall_s, cpu_s and output_bytes.

    Raises InvalidArgumentError for what is negative, not finite or absurd.

    >>> Limits(memory="1GiB", wall_s=30).memory
    1073741824
    """

    cpus: float | None = None
    memory: int | str | None = None
    pids: int | None = None
    disk: int | str | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    output_bytes: int | str | None = None
    value_bytes: int | str | None = None

    def __post_init__(self) -> None:
        for name in ("memory", "disk", "output_bytes", "value_bytes"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, parse_size(value, name))
        for name, unit in (("cpus", "cores"), ("wall_s", "seconds"), ("cpu_s", "seconds")):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _number(value, name, unit))
        if self.pids is not None:
            _check_pids(self.pids)

    def to_wire(self) -> sessions_pb2.Limits:
        """Returns the session limits message; what is None stays 0."""
        return sessions_pb2.Limits(
            cpus=self.cpus or 0,
            memory_bytes=int(self.memory or 0),
            pids=self.pids or 0,
            disk_bytes=int(self.disk or 0),
            wall_s=self.wall_s or 0,
            cpu_s=self.cpu_s or 0,
            output_bytes=int(self.output_bytes or 0),
            value_bytes=int(self.value_bytes or 0),
        )

    def to_execution_wire(self) -> execution_pb2.ExecutionLimits:
        """Returns limits of one execution; raises InvalidArgumentError for session-wide ones."""
        for name in ("cpus", "memory", "pids", "disk", "value_bytes"):
            if getattr(self, name) is not None:
                raise InvalidArgumentError(
                    f"{name} is a limit of the session, not of one execution.",
                    hint="Give it to client.session(limits=...).",
                )
        return execution_pb2.ExecutionLimits(
            wall_s=self.wall_s or 0,
            cpu_s=self.cpu_s or 0,
            output_bytes=int(self.output_bytes or 0),
        )

    @classmethod
    def from_wire(cls, limits: sessions_pb2.Limits) -> Limits:
        """Returns what the server applied; 0 means that it did not say."""
        return cls(
            cpus=limits.cpus or None,
            memory=limits.memory_bytes or None,
            pids=limits.pids or None,
            disk=limits.disk_bytes or None,
            wall_s=limits.wall_s or None,
            cpu_s=limits.cpu_s or None,
            output_bytes=limits.output_bytes or None,
            value_bytes=limits.value_bytes or None,
        )


def _number(value: float, what: str, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgumentError(f"{what}={value!r} is no number of {unit}.")
    number = float(value) if abs(value) <= _MAX_NUMBER else math.inf
    if not (math.isfinite(number) and number > 0):
        raise InvalidArgumentError(
            f"{what}={value!r} is out of range: a positive number of {unit}, "
            f"at most {_MAX_NUMBER:.0e}."
        )
    return number


def _check_pids(pids: int) -> None:
    if isinstance(pids, bool) or not isinstance(pids, int) or not 1 <= pids <= _MAX_PIDS:
        raise InvalidArgumentError(f"pids={pids!r} is out of range: between 1 and {_MAX_PIDS}.")
