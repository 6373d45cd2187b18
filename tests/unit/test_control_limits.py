"""Limits: defaults, caps, and every way a number can be no limit."""

import math
import re
from dataclasses import asdict, fields

import pytest

from grotto_control.core.limits import CAPS, LimitRules, check_execution_limits, resolve
from grotto_control.model.errors import InvalidArgument
from grotto_control.model.limits import Limits
from grotto_proto.v1 import execution_pb2, sessions_pb2

RULES = LimitRules()
NAMES = [field.name for field in fields(Limits)]
REALS = ["cpus", "wall_s", "cpu_s"]


def test_nothing_asked_gives_the_defaults() -> None:
    found = resolve(sessions_pb2.Limits(), RULES)
    assert asdict(found) == {**asdict(RULES.defaults), "cpu_s": 120.0}


def test_the_message_and_the_value_have_the_same_fields() -> None:
    assert [field.name for field in sessions_pb2.Limits.DESCRIPTOR.fields] == NAMES


def test_cpu_time_follows_wall_time_and_cpus() -> None:
    found = resolve(sessions_pb2.Limits(wall_s=10, cpus=2), RULES)
    assert (found.wall_s, found.cpus, found.cpu_s) == (10, 2, 20)
    assert resolve(sessions_pb2.Limits(wall_s=10, cpu_s=3), RULES).cpu_s == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_cap_is_allowed_and_more_is_refused(name: str) -> None:
    cap = getattr(CAPS, name)
    assert getattr(resolve(sessions_pb2.Limits(**{name: cap}), RULES), name) == cap
    with pytest.raises(InvalidArgument, match=rf"limits\.{name} is .*allows .* to"):
        resolve(sessions_pb2.Limits(**{name: cap + 1}), RULES)


@pytest.mark.parametrize("name", REALS)
@pytest.mark.parametrize("value", [-1.0, -0.001, math.nan, math.inf, -math.inf, 1e-300, 1e300])
def test_absurd_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(f"limits.{name} is {value}")):
        resolve(sessions_pb2.Limits(**{name: value}), RULES)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REALS])
def test_one_is_too_little(name: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"limits\.{name} is 1;"):
        resolve(sessions_pb2.Limits(**{name: 1}), RULES)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e12])
@pytest.mark.parametrize("name", ["wall_s", "cpu_s"])
def test_bounds_of_one_execution_are_checked(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=name):
        check_execution_limits(execution_pb2.ExecutionLimits(**{name: value}))
    check_execution_limits(execution_pb2.ExecutionLimits(**{name: 5.0}))
