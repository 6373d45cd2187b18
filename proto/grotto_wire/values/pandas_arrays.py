"""Codecs of pandas' own arrays, each by typed buffers.

Values that pandas would trust (codes, lengths) are checked against what they index.
"""

from collections.abc import Callable
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.pandas_scalars import (
    UNITS,
    closed_of,
    frequency_text,
    offset_of,
    read_pandas_zone,
    zone_for_wire,
)
from grotto_wire.values.parts import Part, Sink
from grotto_wire.values.source import Source
from grotto_wire.values.texts import join_texts, split_texts

NUMPY_KINDS = "biufcMmO"
"""Kinds of numpy array that pandas keeps as they are."""

MAX_RANGE_ITEMS = 1_000_000
"""Of a RangeIndex as categories or level, where codes do not account for more."""


# ---- encode ----


def encoders() -> dict[type, Callable[[Any, Sink], Any]]:
    """Returns the codecs by type; pandas is imported already."""
    import pandas as pd

    arrays = pd.arrays
    return {
        arrays.DatetimeArray: _datetimes,
        arrays.TimedeltaArray: lambda value, _: _one(value._ndarray, nodes.Datetimes, None),
        **dict.fromkeys((arrays.IntegerArray, arrays.FloatingArray, arrays.BooleanArray), _masked),
        arrays.StringArray: _strings,
        arrays.ArrowStringArray: _strings,
        pd.Categorical: _categorical,
        arrays.IntervalArray: _intervals,
        arrays.PeriodArray: _periods,
    }


def _one(child: Any, node: Callable[..., nodes.Node], *rest: Any) -> Part:
    return Part((child,), lambda cells: node(cells[0], *rest), lambda _: "", "pandas array")


def values_of(holder: Any) -> Any:
    """Returns the array of a Series or Index: numpy's own, or an extension array."""
    import pandas as pd

    array = holder.array
    return array.to_numpy() if type(array) is pd.arrays.NumpyExtensionArray else array


def _datetimes(value: Any, _: Sink) -> Part:
    children = (value._ndarray, zone_for_wire(value.tz))
    return Part(children, lambda c: nodes.Datetimes(*c), lambda i: ("", ".tz")[i], "pandas array")


def _masked(value: Any, _: Sink) -> Part:
    children = (value._data, value._mask)
    return Part(children, lambda cells: nodes.Masked(*cells), lambda _: "", "pandas array")


def _strings(value: Any, sink: Sink) -> nodes.Node:
    import pandas as pd

    mask = value.isna()
    lengths, text = join_texts(value.to_numpy(dtype=object, na_value="").tolist())
    return nodes.Strings(
        sink.buffer(lengths),
        sink.buffer(text),
        sink.buffer(memoryview(mask.view("u1"))) if mask.any() else None,
        value.dtype.storage,
        value.dtype.na_value is not pd.NA,
    )


def _categorical(value: Any, _: Sink) -> Part:
    ordered = bool(value.ordered)
    return Part(
        (value.codes, value.categories),
        lambda cells: nodes.Categorical(cells[0], cells[1], ordered),
        lambda i: ("", ".categories")[i],
        "pandas.Categorical",
    )


def _intervals(value: Any, _: Sink) -> Part:
    closed = value.closed
    return Part(
        (values_of(value.left), values_of(value.right)),
        lambda cells: nodes.Intervals(cells[0], cells[1], closed),
        lambda i: (".left", ".right")[i],
        "pandas array",
    )


def _periods(value: Any, _: Sink) -> Any:
    text = frequency_text(value.freq)
    return NotImplemented if text is None else _one(value.asi8, nodes.Periods, text)


# ---- decode ----


def array_of(cell: nodes.Cell, source: Source, kinds: str, dimensions: int = 1) -> Any:
    """Returns a numpy array of one of the kinds of data type; raises BadEnvelope."""
    import numpy as np

    found = source.value(cell)
    if type(found) is not np.ndarray or found.dtype.kind not in kinds or found.ndim != dimensions:
        raise BadEnvelope("an array of a table is of another kind")
    if found.dtype.kind in "Mm":
        unit, count = np.datetime_data(found.dtype)
        if unit not in UNITS or count != 1 or not found.dtype.isnative:
            raise BadEnvelope("a table has points in time in a unit that pandas has not")
    return found


def column_of(cell: nodes.Cell, source: Source, length: int | None) -> Any:
    """Returns a one-dimensional array that pandas can hold, of that length."""
    import numpy as np
    import pandas as pd

    found = source.value(cell)
    if isinstance(found, np.ndarray):
        found = array_of(cell, source, NUMPY_KINDS)
    elif not isinstance(found, pd.api.extensions.ExtensionArray):
        raise BadEnvelope("a column is no array")
    if length is not None and (found.ndim != 1 or len(found) != length):
        raise BadEnvelope("a column is not as long as the index")
    return found


def check_codes(codes: Any, items: Any, source: Source) -> None:
    """Raises BadEnvelope unless each code is −1 or the position of one of the items."""
    import pandas as pd

    source.spend(len(codes) // 64)
    count = len(items)
    if not codes.dtype.isnative or (codes.size and not -1 <= codes.min() <= codes.max() < count):
        raise BadEnvelope("a code of a table points at nothing")
    if type(items) is pd.RangeIndex and count > max(MAX_RANGE_ITEMS, len(codes)):
        raise BadEnvelope("categories or levels of a table are too many")


def check_unique(cell: nodes.Cell, index: Any, source: Source) -> None:
    """Raises BadEnvelope unless the items differ. Sorts numbers: their hashes can be chosen."""
    import numpy as np
    import pandas as pd

    if type(index) is pd.RangeIndex or not source.first_look(cell):
        return
    array = index.asi8 if index.dtype.kind in "Mm" else index.to_numpy()
    if array.dtype.kind == "O":
        items = array.tolist()
        source.check_hashes(cell, items)
        unique = len(set(items)) == len(items)
    else:
        ordered = np.sort(array)
        unique = not (ordered[1:] == ordered[:-1]).any()
    if not unique:
        raise BadEnvelope("categories or levels of a table repeat")


def _read_datetimes(node: nodes.Datetimes, source: Source) -> Any:
    import numpy as np
    import pandas as pd

    values = array_of(node.values, source, "Mm")
    zone = read_pandas_zone(node.zone, source)
    if zone is None:
        return pd.array(values, dtype=values.dtype, copy=False)
    dtype = pd.DatetimeTZDtype(np.datetime_data(array_of(node.values, source, "M").dtype)[0], zone)
    # Not the constructor: it copies what it localises.
    return pd.arrays.DatetimeArray._simple_new(values, dtype=dtype)


def _read_masked(node: nodes.Masked, source: Source) -> Any:
    import pandas as pd

    values, mask = array_of(node.values, source, "biuf"), array_of(node.mask, source, "b")
    if values.shape != mask.shape:
        raise BadEnvelope("a mask does not fit its array")
    kinds = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}
    return kinds.get(values.dtype.kind, pd.arrays.IntegerArray)(values, mask, copy=False)


def _read_strings(node: nodes.Strings, source: Source) -> Any:
    import numpy as np

    texts = np.array(split_texts(source.buffer(node.lengths), source.buffer(node.text)), object)
    dtype = _string_dtype(node)
    if node.missing is not None:
        mask = np.frombuffer(source.buffer(node.missing), np.uint8)
        if mask.shape != texts.shape or (mask.size and mask.max() > 1):
            raise BadEnvelope("a mask does not fit its array")
        texts[mask.view(bool)] = np.nan if dtype is None else dtype.na_value
    if dtype is None:
        return texts
    return dtype.construct_array_type()._from_sequence(texts, dtype=dtype, copy=False)


def _string_dtype(node: nodes.Strings) -> Any:
    """Returns the nearest type this pandas has; None is plain objects, as before pandas 3."""
    import numpy as np
    import pandas as pd

    if node.storage not in ("python", "pyarrow"):
        raise BadEnvelope("an unknown storage of strings")
    na = {"na_value": np.nan} if node.missing_is_nan else {}
    for storage in dict.fromkeys((node.storage, "python")):
        try:
            return pd.StringDtype(storage, **na)
        except ImportError:  # no pyarrow here
            continue
        except TypeError:  # pandas 2.2 has pandas.NA alone
            return None
    return None


def _read_categorical(node: nodes.Categorical, source: Source) -> Any:
    import pandas as pd

    codes, categories = array_of(node.codes, source, "i"), source.value(node.categories)
    if not isinstance(categories, pd.Index) or isinstance(categories, pd.MultiIndex):
        raise BadEnvelope("categories of a table are no index")
    check_codes(codes, categories, source)
    check_unique(node.categories, categories, source)
    # Not the constructor: it finds duplicates by hashes that a sender can choose.
    dtype = pd.CategoricalDtype._from_fastpath(categories, node.ordered)
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)


def _read_intervals(node: nodes.Intervals, source: Source) -> Any:
    import pandas as pd

    left, right = column_of(node.left, source, None), column_of(node.right, source, None)
    source.spend(len(left) // 16)
    ends = (pd.Index(end, dtype=end.dtype, copy=False) for end in (left, right))
    return pd.arrays.IntervalArray.from_arrays(*ends, closed=closed_of(node.closed), copy=False)


def _read_periods(node: nodes.Periods, source: Source) -> Any:
    import pandas as pd

    ordinals = array_of(node.ordinals, source, "i")
    if ordinals.dtype != "<i8":
        raise BadEnvelope("the ordinals of periods are no 64-bit integers")
    dtype = pd.PeriodDtype(offset_of(node.frequency))
    return pd.arrays.PeriodArray(ordinals, dtype=dtype, copy=False)


BUILDERS: dict[type, Callable[[Any, Source], Any]] = {
    nodes.Datetimes: _read_datetimes,
    nodes.Masked: _read_masked,
    nodes.Strings: _read_strings,
    nodes.Categorical: _read_categorical,
    nodes.Intervals: _read_intervals,
    nodes.Periods: _read_periods,
}
