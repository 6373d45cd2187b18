"""Scalars and containers come back as what they were: type, value, identity, order."""

import datetime as dt
import decimal
import math
import pathlib
import struct
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grotto_wire.values import Untransferable, decode, encode, size


def roundtrip(value: Any) -> Any:
    segments = encode(value)
    payload = bytearray(b"".join(segments))
    assert len(payload) == size(segments)
    return decode(payload)


def same(left: Any, right: Any) -> bool:
    """Equal in type and value all the way down; NaN equals NaN, 0.0 is not -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, decimal.Decimal):
        return str(left) == str(right)
    return bool(left == right)


zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
    st.sampled_from(["Europe/Paris", "America/New_York", "UTC"]).map(zoneinfo.ZoneInfo),
)
any_text = st.text(st.characters(codec=None), max_size=80)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**2000), 2**2000), st.floats(),
    st.complex_numbers(), any_text, st.binary(max_size=100), st.dates(), st.uuids(),
    st.times(timezones=zones), st.datetimes(timezones=zones), st.timedeltas(),
    st.decimals(), st.builds(pathlib.PurePosixPath, st.text("ab/.", min_size=1, max_size=9)),
    st.builds(range, st.integers(), st.integers(), st.integers(1)), st.just(...),
)  # fmt: skip
keys = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), any_text, st.binary(max_size=9), st.dates()),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=5),
        st.sets(keys, max_size=4),
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_any_tree_of_plain_values_comes_back_equal(value: Any) -> None:
    assert same(roundtrip(value), value)


EDGE_VALUES = [
    0, -1, 127, -128, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**5000,
    0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, complex(-0.0, math.nan),
    "", "a" * 64, "a" * 65, "é" * 70, "x" * 5000, "\ud800", "a\udfff" * 40, "\ud83d" * 3000, "\0",
    b"", b"\0" * 5000, bytearray(b"abc"), bytearray(5000),
    decimal.Decimal("-0.00"), decimal.Decimal("NaN123"), decimal.Decimal("sNaN"),
    decimal.Decimal("1E+999999"), decimal.Decimal("-Infinity"),
    uuid.UUID(int=2**128 - 1), pathlib.PosixPath("/a/b"), pathlib.PureWindowsPath("C:\\x"),
    pathlib.PurePosixPath("\udcff"),
    dt.datetime.min, dt.datetime.max, dt.timedelta.min, dt.timedelta.max, dt.time(0, fold=1),
    dt.timezone(dt.timedelta(hours=5, microseconds=7), "odd"), dt.timezone.min,
    range(0), range(10**30, 0, -7), slice(None), slice(1, "x", 2.5), NotImplemented,
    (), [], {}, set(), frozenset(), ((),), [[[]]],
]  # fmt: skip


@pytest.mark.parametrize("value", EDGE_VALUES, ids=range(len(EDGE_VALUES)))
def test_edge_values_come_back_equal(value: Any) -> None:
    assert same(roundtrip(value), value)


def test_a_datetime_in_a_fold_comes_back_on_the_same_side() -> None:
    zone = zoneinfo.ZoneInfo("Europe/Paris")
    value = dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone)
    found = roundtrip(value)
    assert (found.fold, found.utcoffset()) == (1, dt.timedelta(hours=1))


def test_dictionaries_keep_their_order_and_mixed_keys() -> None:
    value = {3: "a", "b": 1, None: 2, (1, (2, frozenset({3}))): [4], 1.5: {}, b"k": 0}
    assert list(roundtrip(value).items()) == list(value.items())


def test_shared_parts_stay_shared() -> None:
    shared: list[int] = [1]
    text = "long " * 50
    found = roundtrip({"a": shared, "b": (shared, {"c": shared}), "t": [text, text]})
    assert found["a"] is found["b"][0] is found["b"][1]["c"]
    assert found["t"][0] is found["t"][1]


def test_equal_parts_that_were_not_shared_stay_apart() -> None:
    found = roundtrip([[1], [1]])
    assert found[0] is not found[1]


def test_containers_that_contain_themselves_come_back_so() -> None:
    items: list[Any] = [1]
    items.append((items, {"me": items}))
    mapping: dict[Any, Any] = {}
    mapping["self"] = [mapping, (mapping,)]
    found = roundtrip((items, mapping))
    assert found[0][1][0] is found[0] and found[0][1][1]["me"] is found[0]
    assert found[1]["self"][0] is found[1] and found[1]["self"][1][0] is found[1]


def test_a_tuple_at_the_root_of_a_cycle_comes_back() -> None:
    inner: list[Any] = []
    root = (inner, "x")
    inner.append(root)
    found = roundtrip(root)
    assert found[0][0] is found


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}])
def test_too_deep_nesting_is_refused_not_a_crash(wrap: Any) -> None:
    value: Any = None
    for _ in range(100_000):
        value = wrap(value)
    with pytest.raises(Untransferable, match="nested deeper than 1000"):
        encode(value)


def test_nesting_up_to_the_limit_comes_back() -> None:
    value: Any = 1
    for _ in range(1000):
        value = [value]
    found = roundtrip(value)
    for _ in range(1000):
        (found,) = found
    assert found == 1


def test_long_chains_of_shared_lists_count_as_deep() -> None:
    chain: list[Any] = [[]]
    for _ in range(2000):
        chain.append([chain[-1]])
    with pytest.raises(Untransferable, match="nested deeper"):
        encode(chain)


class Number(int):
    pass


class Mapping(dict):  # type: ignore[type-arg]
    pass


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "path", "name"),
    [
        ({"model": [1, Thing()]}, 'result["model"][1]', "Thing"),
        ([Number(3)], "result[0]", "Number"),
        ((1, Mapping(a=1)), "result[1]", "Mapping"),
        ({Number(3): 1}, "result[<", "Number"),
        (Thing(), "result", "Thing"),
        ({"a": {"b": ({1: Thing},)}}, 'result["a"]["b"][0][1]', "type"),
        ([lambda: 1], "result[0]", "function"),
    ],
)
def test_what_has_no_codec_is_named_by_path_and_type(value: Any, path: str, name: str) -> None:
    with pytest.raises(Untransferable) as caught:
        encode(value)
    assert caught.value.path.startswith(path)
    assert caught.value.type_name.endswith(name)
    assert caught.value.path in str(caught.value)


def test_labels_name_the_items_of_the_root() -> None:
    with pytest.raises(Untransferable) as caught:
        encode((1, {"x": [Thing()]}), labels=("rate", "model"))
    assert caught.value.path == 'model["x"][0]'


def test_paths_are_bounded_and_run_no_code_of_the_value() -> None:
    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("the path asked for the key's repr")

    with pytest.raises(Untransferable) as caught:
        encode({Loud(): 1})
    assert "Loud" in caught.value.path
    deep: Any = Thing()
    for _ in range(500):
        deep = {"k" * 60: deep}
    with pytest.raises(Untransferable) as caught:
        encode(deep)
    assert len(caught.value.path) < 600


def test_an_integer_over_the_limit_is_refused() -> None:
    with pytest.raises(Untransferable, match="over the limit"):
        encode(1 << (8 * 1024 * 1024 + 64))


def test_foreign_parts_keep_their_place_and_native_containers_around_them() -> None:
    seen: list[str] = []

    def dump(_: object, path: str) -> bytes:
        seen.append(path)
        return b"<" + path.encode() + b">"

    payload = b"".join(encode({"f": Thing(), "x": [Thing(), 2]}, foreign=dump))
    found = decode(payload, foreign=lambda data: data.decode())
    assert found == {"f": '<result["f"]>', "x": ['<result["x"][0]>', 2]}
    assert seen == ['result["f"]', 'result["x"][0]']


def test_big_bytes_are_passed_on_not_copied() -> None:
    data = bytes(1_000_000)
    segments = encode({"blob": data})
    assert any(isinstance(s, memoryview) and s.obj is data for s in segments)
