"""Codecs of pandas' indexes."""

from collections.abc import Callable
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.pandas_arrays import (
    array_of,
    check_codes,
    check_unique,
    column_of,
    values_of,
)
from grotto_wire.values.pandas_scalars import frequency_text, offset_of
from grotto_wire.values.parts import Part, Sink
from grotto_wire.values.source import Source

# ---- encode ----


def encoders() -> dict[type, Callable[[Any, Sink], Any]]:
    """Returns the codecs by type; pandas is imported already."""
    import pandas as pd

    plain = (pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.CategoricalIndex)
    return {
        **dict.fromkeys((*plain, pd.IntervalIndex, pd.PeriodIndex), _index),
        pd.RangeIndex: _range_index,
        pd.MultiIndex: _multi_index,
    }


def named(pieces: list[str]) -> Callable[[int], str]:
    return lambda i: pieces[i]


def _index(value: Any, _: Sink) -> Part:
    frequency = frequency_text(getattr(value, "freq", None)) if value.dtype.kind in "Mm" else None
    return Part(
        (values_of(value), value.name),
        lambda cells: nodes.Index(cells[0], cells[1], frequency),
        named(["", ".name"]),
        "pandas.Index",
    )


def _range_index(value: Any, _: Sink) -> Part:
    ends = value.start, value.stop, value.step
    return Part(
        (value.name,),
        lambda cells: nodes.RangeIndex(*ends, cells[0]),
        named([".name"]),
        "pandas.RangeIndex",
    )


def _multi_index(value: Any, _: Sink) -> Part:
    import numpy as np

    levels = [level.rename(None) for level in value.levels]
    codes = [np.asarray(code) for code in value.codes]
    count = len(levels)
    return Part(
        [*levels, *codes, *value.names],
        lambda c: nodes.MultiIndex(c[:count], c[count : 2 * count], c[2 * count :]),
        lambda i: f".{('levels', 'codes', 'names')[i // count]}[{i % count}]",
        "pandas.MultiIndex",
    )


# ---- decode ----


def axis_of(cell: nodes.Cell, source: Source) -> Any:
    import pandas as pd

    found = source.value(cell)
    if not isinstance(found, pd.Index):
        raise BadEnvelope("an index of a table is something else")
    return found


def _read_index(node: nodes.Index, source: Source) -> Any:
    import pandas as pd

    values = column_of(node.values, source, None)
    name = source.value(node.name)
    source.weigh_keys([node.values])
    found = pd.Index(values, dtype=values.dtype, name=name, copy=False, tupleize_cols=False)
    if node.frequency is not None:
        if type(found) not in (pd.DatetimeIndex, pd.TimedeltaIndex):
            raise BadEnvelope("an index without points in time has a frequency")
        # Not the setter: it walks the index offset by offset to compare.
        holder = found if hasattr(found, "_freq") else found._data  # pandas 3 : pandas 2
        holder._freq = offset_of(node.frequency)
    return found


def _read_range_index(node: nodes.RangeIndex, source: Source) -> Any:
    import pandas as pd

    return pd.RangeIndex(node.start, node.stop, node.step, name=source.value(node.name))


def _read_multi_index(node: nodes.MultiIndex, source: Source) -> Any:
    import pandas as pd

    levels = [axis_of(level, source) for level in node.levels]
    codes = [array_of(code, source, "i") for code in node.codes]
    if not levels or len({len(levels), len(codes), len(node.names)}) != 1:
        raise BadEnvelope("a multi-index has levels without codes or names")
    for cell, level, code in zip(node.levels, levels, codes, strict=True):
        if len(code) != len(codes[0]) or isinstance(level, pd.MultiIndex):
            raise BadEnvelope("a level of a multi-index does not fit")
        check_codes(code, level, source)
        check_unique(cell, level, source)
    names = [source.value(name) for name in node.names]
    return pd.MultiIndex(levels, codes, names=names, copy=False, verify_integrity=False)


BUILDERS: dict[type, Callable[[Any, Source], Any]] = {
    nodes.Index: _read_index,
    nodes.RangeIndex: _read_range_index,
    nodes.MultiIndex: _read_multi_index,
}
