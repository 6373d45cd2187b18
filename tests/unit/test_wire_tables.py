"""pandas objects come back the same: types, labels, indexes, missing values, attributes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd

from grotto_wire.values import Untransferable, decode, encode


def roundtrip(value: Any) -> Any:
    return decode(bytearray(b"".join(encode(value))))


days = pd.date_range("2024-01-01", periods=3, freq="D")
zoned = pd.date_range("2024-03-30", periods=3, freq="12h", tz="Europe/Paris")
COLUMNS = {
    "ints": [1, 2, 3],
    "floats": np.array([1.5, np.nan, -0.0]),
    "bools": [True, False, True],
    "small": np.array([1, 2, 3], "i1"),
    "complex": np.array([1j, 2, 3]),
    "text": ["a", None, "ü\U0001f600"],
    "string": pd.array(["a", None, ""], dtype="string"),
    "objects": pd.Series([1, "x", (2, [3])], dtype=object),
    "days": days,
    "zoned": zoned,
    "fixed": pd.to_datetime(["2024-01-01"] * 3).tz_localize("+05:30"),
    "seconds": days.as_unit("s"),
    "spans": pd.to_timedelta([1, None, 3], unit="s"),
    "category": pd.Categorical(["u", None, "v"], categories=["v", "u", "w"], ordered=True),
    "numbers": pd.Categorical([3, 1, 3], categories=[3, 1, 2]),
    "Int64": pd.array([1, None, 3], dtype="Int64"),
    "UInt8": pd.array([1, None, 3], dtype="UInt8"),
    "Float32": pd.array([1.5, None, 3], dtype="Float32"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "periods": pd.period_range("2024-01", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3),
    "cut": pd.cut([1, 5, 9], 3),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_kind_of_column_comes_back(name: str) -> None:
    frame = pd.DataFrame({name: COLUMNS[name], "other": [1, 2, 3]})
    pd.testing.assert_frame_equal(roundtrip(frame), frame, check_freq=True)
    series = frame[name]
    pd.testing.assert_series_equal(roundtrip(series), series)
    array = series.array
    if not isinstance(array, pd.arrays.NumpyExtensionArray):
        pd.testing.assert_extension_array_equal(roundtrip(array), array)


def test_all_kinds_of_columns_in_one_frame_come_back() -> None:
    frame = pd.DataFrame(COLUMNS)
    found = roundtrip(frame)
    pd.testing.assert_frame_equal(found, frame)
    assert found["objects"].iloc[2] == (2, [3])


tuples = [("a", 1), ("a", 2), ("b", 1)]
INDEXES = [
    pd.RangeIndex(5, 20, 5, name="r"), pd.Index([3, 1, 2]), pd.Index([1.5, 2, 3], name=("t", 1)),
    pd.Index(["x", "y", "x"]), pd.Index([1, "a", None], dtype=object), days, zoned, days - days[0],
    pd.DatetimeIndex(["2024-01-01", "2024-01-05", "NaT"]), pd.Index([True, False, True]),
    pd.CategoricalIndex(["a", "b", "a"], name="c"), pd.interval_range(0, 3, closed="left"),
    pd.period_range("2024", periods=3, freq="Q"),
    pd.MultiIndex.from_tuples(tuples, names=["k", None]),
    pd.MultiIndex.from_arrays([zoned, [1, None, 3]]), pd.Index(tuples, tupleize_cols=False),
    pd.Index(["a", None, "b"], dtype="string"), pd.Index([1, None, 2], dtype="Int64"),
    pd.date_range("2024-01-01", periods=3, freq="B"),
    pd.date_range("2024", periods=3, freq="W-WED"),
]  # fmt: skip


@pytest.mark.parametrize(
    "index", INDEXES, ids=lambda index: f"{type(index).__name__}-{index.dtype}"
)
def test_each_kind_of_index_comes_back(index: Any) -> None:
    found = roundtrip(index)
    pd.testing.assert_index_equal(found, index, exact=True)
    assert getattr(found, "freq", None) == getattr(index, "freq", None)
    frame = pd.DataFrame({"x": [1, 2, 3]}, index=index)
    pd.testing.assert_frame_equal(roundtrip(frame), frame, check_freq=True)
    wide = pd.DataFrame([[1, 2, 3]], columns=index)
    pd.testing.assert_frame_equal(roundtrip(wide), wide, check_freq=True)


FRAMES = [
    pd.DataFrame(),
    pd.DataFrame(index=["a", "b"]),
    pd.DataFrame(columns=["a", "b"]),
    pd.DataFrame({"a": pd.Series(dtype="Int64")}),
    pd.DataFrame(np.arange(6).reshape(2, 3), columns=["x", "x", "x"]),
    pd.DataFrame([[1, 2.5, "a"]], columns=[0, 2, 1]),
    pd.DataFrame([[1, 2]], columns=[("a", 1), None]),
    pd.DataFrame(np.random.default_rng(0).random((10, 4)))[::3],
    pd.DataFrame({"a": [1], "b": [2.0], "c": [3]}).assign(d=4)[["c", "d", "a"]],
    pd.DataFrame(np.zeros((2, 2), ">f8")),
]


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
def test_odd_frames_come_back(frame: Any) -> None:
    pd.testing.assert_frame_equal(roundtrip(frame), frame, check_column_type=True)


@settings(max_examples=30, deadline=None)
@given(
    hpd.data_frames(
        [
            hpd.column("a", dtype=float),
            hpd.column("b", dtype=np.int64),
            hpd.column("c", elements=st.one_of(st.none(), st.text(max_size=5)), dtype=object),
            hpd.column("d", dtype="datetime64[ns]"),
        ]
    )
)
def test_any_mixed_frame_comes_back(frame: Any) -> None:
    pd.testing.assert_frame_equal(roundtrip(frame), frame)


SCALARS = [
    pd.NaT, pd.NA, pd.Timestamp("2024-01-01 12:00:00.000000001"), pd.Timestamp(0, unit="s"),
    pd.Timestamp("2024-07-01", tz="Asia/Tokyo"), pd.Timedelta("1D 3ns"), pd.Timedelta(5, "s"),
    pd.Period("2024-05", "M"), pd.Interval(0, 1.5, "both"),
    pd.Interval(pd.Timestamp("2024"), pd.Timestamp("2025")),
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_pandas_scalars_come_back(scalar: Any) -> None:
    found = roundtrip(scalar)
    assert type(found) is type(scalar) and repr(found) == repr(scalar)
    assert getattr(found, "unit", None) == getattr(scalar, "unit", None)


def test_attributes_and_shared_indexes_come_back() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    frame.attrs = {"source": "x", "list": [1]}
    series = pd.Series([1.0, 2.0], index=frame.index, name=("n", 1))
    found, twin, row = roundtrip((frame, frame, series))
    assert found is twin and found.attrs == frame.attrs
    assert row.name == ("n", 1) and row.index is found.index


def test_the_path_into_a_frame_names_the_column() -> None:
    frame = pd.DataFrame({"fine": [1, 2], "odd": pd.Series([1, object()], dtype=object)})
    with pytest.raises(Untransferable) as caught:
        encode({"t": frame})
    assert caught.value.path == 'result["t"]["odd"][0, 1]'
    assert caught.value.type_name == "object"


def test_a_frame_that_holds_itself_is_refused() -> None:
    frame = pd.DataFrame({"a": pd.Series([None], dtype=object)})
    frame._mgr.blocks[0].values[0, 0] = frame
    with pytest.raises(Untransferable, match="contains itself"):
        encode(frame)


def test_subclasses_are_refused() -> None:
    class Frame(pd.DataFrame):
        pass

    with pytest.raises(Untransferable):
        encode(Frame({"a": [1]}))


def test_numeric_blocks_are_neither_copied_nor_split() -> None:
    array = np.random.default_rng(0).random((500, 8))
    frame = pd.DataFrame(array, copy=False)
    segments = encode(frame)
    views = [np.frombuffer(s, "u1") for s in segments if isinstance(s, memoryview)]
    assert any(np.shares_memory(view, array) for view in views)
    payload = bytearray(b"".join(segments))
    found = decode(payload)
    assert len(found._mgr.blocks) == 1
    assert np.shares_memory(found._mgr.blocks[0].values, np.frombuffer(payload, "u1"))


def test_a_decoded_frame_can_be_changed() -> None:
    found = roundtrip(pd.DataFrame({"a": [1, 2], "t": zoned[:2], "s": ["x", "y"]}))
    found.loc[0, "a"] = 7
    found.loc[0, "t"] = zoned[2]
    found["b"] = found["a"] * 2
    assert found["a"].tolist() == [7, 2] and found["b"].tolist() == [14, 4]
