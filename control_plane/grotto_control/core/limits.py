"""Limits a client asked for: checked, filled with defaults, held against the server's caps."""

import math
from dataclasses import dataclass, field

from grotto_control.model.errors import InvalidArgument
from grotto_control.model.limits import GIB, KIB, MIB, Limits
from grotto_proto.v1 import execution_pb2, sessions_pb2

MINIMUM = Limits(
    cpus=0.05,
    memory_bytes=32 * MIB,
    pids=8,
    disk_bytes=MIB,
    wall_s=0.01,
    cpu_s=0.01,
    output_bytes=KIB,
    value_bytes=KIB,
)
CAPS = Limits(
    cpus=64.0,
    memory_bytes=16 * GIB,
    pids=1024,
    disk_bytes=4 * GIB,
    wall_s=3600.0,
    cpu_s=64 * 3600.0,
    output_bytes=64 * MIB,
    value_bytes=4 * GIB,
)
MAX_EXECUTION_BOUND = 1e9


@dataclass(frozen=True, slots=True)
class LimitRules:
    """What a session gets unasked, and the most it may ask for."""

    defaults: Limits = field(default_factory=Limits)
    caps: Limits = CAPS


def resolve(asked: sessions_pb2.Limits, rules: LimitRules) -> Limits:
    """Returns a session's limits, all set.

    Raises InvalidArgument, naming field, value and bound, for what is not a number in range.
    """
    fields = {name: _field(asked, name, rules) for name in Limits.__slots__ if name != "cpu_s"}
    # The default CPU time follows the other two, so it may be known only now.
    default_cpu_s = rules.defaults.cpu_s or fields["wall_s"] * fields["cpus"]
    cpu_s = min(_checked("cpu_s", asked.cpu_s, rules.caps.cpu_s) or default_cpu_s, rules.caps.cpu_s)
    return Limits(
        cpus=fields["cpus"],
        memory_bytes=int(fields["memory_bytes"]),
        pids=int(fields["pids"]),
        disk_bytes=int(fields["disk_bytes"]),
        wall_s=fields["wall_s"],
        cpu_s=cpu_s,
        output_bytes=int(fields["output_bytes"]),
        value_bytes=int(fields["value_bytes"]),
    )


def check_execution_limits(limits: execution_pb2.ExecutionLimits) -> None:
    """Raises InvalidArgument for a bound of one execution that is no usable number."""
    for name, value in (("wall_s", limits.wall_s), ("cpu_s", limits.cpu_s)):
        if not 0 <= value <= MAX_EXECUTION_BOUND:
            raise InvalidArgument(
                f"limits.{name} is {value}; it must be between 0 and {MAX_EXECUTION_BOUND:g}.",
                "leave it 0 for the session's own limit.",
            )


def _field(asked: sessions_pb2.Limits, name: str, rules: LimitRules) -> float:
    value = _checked(name, getattr(asked, name), getattr(rules.caps, name))
    default: float = getattr(rules.defaults, name)
    return value or default


def _checked(name: str, value: float, cap: float) -> float:
    if value == 0:
        return value
    minimum: float = getattr(MINIMUM, name)
    if math.isfinite(value) and minimum <= value <= cap:
        return value
    raise InvalidArgument(
        f"limits.{name} is {value}; this server allows {minimum:g} to {cap:g}.",
        "leave it 0 for the server's default.",
    )
