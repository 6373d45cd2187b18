"""Codecs of DataFrame and Series.

A frame travels as its blocks: the two-dimensional arrays that pandas itself keeps
columns of one type in. Numbers are never touched one by one.
"""

from collections.abc import Callable
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.indexes import axis_of, named
from grotto_wire.values.pandas_arrays import NUMPY_KINDS, array_of, column_of, values_of
from grotto_wire.values.parts import Part, Sink, key_label
from grotto_wire.values.source import Source

# ---- encode ----


def encoders() -> dict[type, Callable[[Any, Sink], Any]]:
    """Returns the codecs by type; pandas is imported already."""
    import pandas as pd

    return {
        pd.Series: _series,
        pd.DataFrame: _frame,
    }


def _series(value: Any, _: Sink) -> Part:
    return Part(
        (values_of(value), value.index, value.name, value.attrs or None),
        lambda cells: nodes.Series(*cells),
        named(["", ".index", ".name", ".attrs"]),
        "pandas.Series",
    )


def _frame(value: Any, _: Sink) -> Part:
    blocks = [part for block in value._mgr.blocks for part in _split(block)]
    columns = value.columns
    count = len(blocks)

    def label(i: int) -> str:
        if i < 3:
            return (".index", ".columns", ".attrs")[i]
        place = blocks[(i - 3) % count][1]
        return key_label(columns[int(place[0])]) if len(place) else ""

    def build(cells: list[Any]) -> nodes.Node:
        index, names, attrs, *rest = cells
        return nodes.DataFrame(index, names, rest[:count], rest[count:], attrs)

    arrays, places = [array for array, _ in blocks], [place for _, place in blocks]
    children = [value.index, columns, value.attrs or None, *arrays, *places]
    return Part(children, build, label, "pandas.DataFrame")


def _split(block: Any) -> list[tuple[Any, Any]]:
    """Returns (array, column positions): one numpy array, or one extension array a column."""
    import numpy as np

    values, places = block.values, block.mgr_locs.as_array.astype("<i8")
    if isinstance(values, np.ndarray):
        return [(values, places)]
    if getattr(values.dtype, "tz", None) is None and hasattr(values, "_ndarray"):
        array = values._ndarray
        if array.ndim == 2 and array.dtype.kind in "Mm":
            return [(array, places)]
    if values.ndim == 1:
        return [(values, places)]
    return [(values[row], places[row : row + 1]) for row in range(len(places))]


# ---- decode ----


def _read_series(node: nodes.Series, source: Source) -> Any:
    import pandas as pd

    index = axis_of(node.index, source)
    values = column_of(node.values, source, len(index))
    name = source.value(node.name)
    found = pd.Series(values, index=index, dtype=values.dtype, name=name, copy=False)
    _set_attrs(found, node.attrs, source)
    return found


def _set_attrs(holder: Any, cell: nodes.Cell, source: Source) -> None:
    if cell is None:
        return
    attrs = source.value(cell)
    if type(attrs) is not dict:
        raise BadEnvelope("attrs of a table are no dictionary")
    source.at_end(lambda: setattr(holder, "attrs", attrs))


def _read_frame(node: nodes.DataFrame, source: Source) -> Any:
    import numpy as np

    index, columns = axis_of(node.index, source), axis_of(node.columns, source)
    if len(node.blocks) != len(node.placements):
        raise BadEnvelope("a table has columns without places")
    source.spend(len(columns) // 4)
    places = [array_of(place, source, "i").astype(np.intp) for place in node.placements]
    taken = np.sort(np.concatenate([np.empty(0, np.intp), *places]))
    if taken.size != len(columns) or (taken != np.arange(taken.size)).any():
        raise BadEnvelope("the places of a table's columns do not fit its columns")
    blocks = [
        (_block(cell, source, (len(place), len(index))), place)
        for cell, place in zip(node.blocks, places, strict=True)
    ]
    found = _assemble(blocks, index, columns)
    _set_attrs(found, node.attrs, source)
    return found


def _block(cell: nodes.Cell, source: Source, shape: tuple[int, int]) -> Any:
    import numpy as np

    found = source.value(cell)
    if isinstance(found, np.ndarray) and found.ndim == 2:
        block = array_of(cell, source, NUMPY_KINDS, dimensions=2)
        if block.shape != shape:
            raise BadEnvelope("a block of a table has another shape")
        return block
    column = column_of(cell, source, shape[1])
    if shape[0] != 1:
        raise BadEnvelope("a block of a table has another shape")
    return column.reshape(1, -1) if isinstance(column, np.ndarray) else column


def _assemble(blocks: list[tuple[Any, Any]], index: Any, columns: Any) -> Any:
    import pandas as pd

    try:
        from pandas.api.internals import create_dataframe_from_blocks
    except ImportError:  # before pandas 3
        from pandas.core.internals import BlockManager
        from pandas.core.internals.api import make_block

        made = [make_block(array, placement=place, ndim=2) for array, place in blocks]
        manager = BlockManager(made, [columns, index])
        return pd.DataFrame._from_mgr(manager, manager.axes)
    return create_dataframe_from_blocks(blocks, index=index, columns=columns)


BUILDERS: dict[type, Callable[[Any, Source], Any]] = {
    nodes.Series: _read_series,
    nodes.DataFrame: _read_frame,
}
