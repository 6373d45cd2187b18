"""Sizes, durations and limits: parsed once, refused early."""

import math

import pytest

import grotto
from grotto.limits import Limits, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        ("1", 1),
        ("512MiB", 512 * 2**20),
        ("512 mib", 512 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("2GB", 2 * 10**9),
        ("10kb", 10_000),
    ],
)
def test_a_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [0, -1, "0", "", "-1", "MiB", "1.2.3GB", "1e9", "5 parsecs", True, 1.5, None, 2**61, "9" * 40],
)
def test_no_size(text):
    with pytest.raises(grotto.InvalidArgumentError, match="size"):
        parse_size(text)


@pytest.mark.parametrize("field", ["cpus", "wall_s", "cpu_s"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e30, 10**400, "1", True])
def test_absurd_numbers_are_refused_by_name(field, value):
    with pytest.raises(grotto.InvalidArgumentError, match=field):
        Limits(**{field: value})


@pytest.mark.parametrize("pids", [0, -5, 2**40, 1.5, "7", True])
def test_absurd_pids(pids):
    with pytest.raises(grotto.InvalidArgumentError, match="pids"):
        Limits(pids=pids)


def test_the_wire_form_and_back():
    limits = Limits(cpus=2, memory="1GiB", pids=64, disk="1MB", wall_s=3, output_bytes=10)
    assert Limits.from_wire(limits.to_wire()) == limits


def test_an_execution_has_no_memory_limit_of_its_own(session):
    with pytest.raises(grotto.InvalidArgumentError, match="memory is a limit of the session"):
        session.execute("1", limits=Limits(memory="1GiB"))


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, "5"])
def test_a_bad_timeout_is_refused_before_anything_is_sent(session, fake, timeout):
    with pytest.raises(grotto.InvalidArgumentError, match="timeout"):
        session.execute("1", timeout)
    assert not fake.requests["Execute"]


def test_timeout_and_wall_s_are_one_limit(session):
    with pytest.raises(grotto.InvalidArgumentError, match="the same limit"):
        session.execute("1", 5, limits=Limits(wall_s=5))
