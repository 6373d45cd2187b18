"""numpy arrays and scalars come back bit by bit, as views on the payload."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grotto_wire.values import Untransferable, decode, encode


def roundtrip(value: Any) -> Any:
    return decode(bytearray(b"".join(encode(value))))


def assert_same(found: Any, value: Any) -> None:
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    if value.dtype == np.longdouble:
        assert repr(found) == repr(value)  # ten of its sixteen bytes count
    else:
        assert found.tobytes() == value.tobytes()


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        st.one_of(
            hnp.scalar_dtypes().filter(lambda dtype: dtype.kind != "O"),
            hnp.nested_dtypes(max_itemsize=100, max_leaves=5),
        ).filter(lambda dtype: dtype.subdtype is None and not dtype.hasobject),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
    )
)
def test_any_array_without_objects_comes_back_bit_by_bit(array: Any) -> None:
    found = roundtrip(array)
    assert (type(found), found.dtype, found.shape) == (np.ndarray, array.dtype, array.shape)
    if array.dtype.names is None:
        assert found.tobytes() == array.tobytes()
    else:
        assert repr(found) == repr(array)


base = np.arange(24, dtype="i4").reshape(4, 6)
ARRAYS = [
    base, base.T, np.asfortranarray(base), base[::2, ::3], base[::-1], base[:, 1],
    base.astype(">i4"), np.array(5), np.zeros((0, 3)), np.zeros((3, 0, 2), "M8[s]"),
    np.array([True, False]), np.array([1 + 2j], "c8"), np.array([1.5], "f2"),
    np.array([1], np.longdouble), np.array(["a", "", "ü\U0001f600"]), np.array([b"ab", b""]),
    np.array(["2020-01-01", "NaT"], "M8[D]"), np.array([1], "M8[25us]"), np.array([3], "m8"),
    np.array(["x"], ">U3"), np.empty(3, "V5"), np.zeros(3, "U0"), np.broadcast_to(1.5, (3, 4)),
    np.zeros(2, [("a", ">i4"), ("b", [("c", "f8", (2, 2)), ("d", "S3")])]),
    np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    np.zeros(2, np.dtype({"names": ["x"], "formats": ["i2"], "offsets": [4], "itemsize": 9})),
    np.zeros(1, [(("title", "name"), "i4")]),
    np.random.default_rng(0).random((2, 3, 4, 5)).transpose(2, 0, 3, 1),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_layouts_and_types_come_back(array: Any) -> None:
    assert_same(roundtrip(array), array)


def test_record_types_keep_titles_offsets_and_alignment() -> None:
    for array in ARRAYS:
        found = roundtrip(array)
        assert found.dtype.fields == array.dtype.fields
        assert found.dtype.isalignedstruct == array.dtype.isalignedstruct


SCALARS = [
    np.bool_(True), np.int8(-3), np.uint64(2**64 - 1), np.float16(1.5), np.float32("nan"),
    np.float64(-0.0), np.longdouble(1) / 3, np.complex64(1 - 2j), np.datetime64("2020-01-01"),
    np.datetime64("NaT", "ns"), np.timedelta64(5, "h"), np.str_("ü"), np.bytes_(b"x"),
    np.zeros(1, [("a", "i4"), ("b", "U2")])[0], np.void(b"abc"), np.str_(""),
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_numpy_scalars_stay_numpy_scalars(scalar: Any) -> None:
    assert_same(roundtrip(scalar), scalar)


def test_a_scalar_that_numpy_would_cut_is_refused() -> None:
    with pytest.raises(Untransferable):
        encode(np.str_("a\0"))


def test_object_arrays_travel_item_by_item() -> None:
    shared = [1]
    array = np.empty((2, 3), object)
    array[0] = [shared, None, "text"]
    array[1] = [(1, 2), np.arange(3), shared]
    found = roundtrip(array)
    assert found.dtype == object and found.shape == (2, 3)
    assert found[0, 0] is found[1, 2] and found[0, 0] == [1]
    assert found[0, 1] is None and found[1, 0] == (1, 2)
    assert_same(found[1, 1], np.arange(3))


def test_an_array_of_no_dimension_in_an_object_array_stays_one() -> None:
    array = np.fromiter([np.array(5), [1]], dtype=object, count=2)
    assert type(roundtrip(array)[0]) is np.ndarray


def test_the_path_into_an_object_array_is_its_index() -> None:
    array = np.empty((2, 2), object)
    array[1, 0] = object()
    with pytest.raises(Untransferable) as caught:
        encode({"a": array})
    assert caught.value.path == 'result["a"][1, 0]'


def test_an_object_array_in_a_cycle_through_a_list_comes_back() -> None:
    array = np.empty(1, object)
    array[0] = [array]
    found = roundtrip(array)
    assert found[0][0] is found


def test_an_object_array_that_holds_itself_is_refused() -> None:
    array = np.empty(1, object)
    array[0] = array
    with pytest.raises(Untransferable, match="contains itself"):
        encode(array)


def test_variable_width_strings_come_back() -> None:
    array = np.array([["x", "long " * 30], ["", "ü"]], np.dtypes.StringDType())
    found = roundtrip(array)
    assert found.dtype == array.dtype and (found == array).all() and found.shape == (2, 2)


def test_dtypes_and_shared_arrays_come_back() -> None:
    array = np.arange(3)
    found = roundtrip({"a": array, "b": array, "d": np.dtype(">f4")})
    assert found["a"] is found["b"] and found["d"] == np.dtype(">f4")


@pytest.mark.parametrize("kind", [np.matrix, np.recarray, np.ma.MaskedArray])
def test_subclasses_are_not_turned_into_plain_arrays(kind: Any) -> None:
    with pytest.raises(Untransferable):
        encode(np.zeros((2, 2)).view(kind))


def test_records_with_objects_in_them_are_refused() -> None:
    with pytest.raises(Untransferable):
        encode(np.zeros(1, [("a", object)]))


@pytest.mark.parametrize("order", ["C", "F"])
def test_encoding_passes_the_arrays_own_memory_on(order: Any) -> None:
    array = np.ones((300, 200), order=order)
    views = [np.frombuffer(s, "u1") for s in encode([array]) if isinstance(s, memoryview)]
    assert any(np.shares_memory(view, array) for view in views)


def test_decoding_makes_views_as_writable_as_the_payload() -> None:
    payload = bytearray(b"".join(encode(np.zeros(1000))))
    found = decode(payload)
    assert np.shares_memory(found, np.frombuffer(payload, "u1")) and found.flags.writeable
    assert not decode(bytes(payload)).flags.writeable


def test_buffers_start_at_multiples_of_64() -> None:
    payload = bytearray(b"".join(encode([np.ones(3, "u1"), np.ones(5), np.ones(7)])))
    start = np.frombuffer(payload, "u1").ctypes.data
    assert all((array.ctypes.data - start) % 64 == 0 for array in decode(payload))


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_values_import_no_data_library() -> None:
    code = (
        "import sys\n"
        "from grotto_wire.values import decode, encode\n"
        "decode(b''.join(encode({'a': [1, 'x' * 99, (2.5, {b'k'})]})))\n"
        "print(sorted({'numpy', 'pandas', 'dill'} & set(sys.modules)))\n"
    )
    assert run(code) == "[]\n"


def test_a_reader_without_numpy_says_what_to_install() -> None:
    payload = b"".join(encode(np.arange(3)))
    code = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "from grotto_wire.values import BadEnvelope, decode\n"
        f"try: decode({payload!r})\n"
        "except BadEnvelope as error: print(error)\n"
    )
    assert "pip install 'grotto[data]'" in run(code)
