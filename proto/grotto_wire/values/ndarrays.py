"""Codecs of numpy: arrays by their own memory, scalars, object arrays item by item."""

import math
from collections.abc import Callable
from typing import Any

from grotto_wire.values import dtypes, nodes
from grotto_wire.values.containers import all_inline
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.limits import ARRAY_DEPTH, MAX_DIMENSIONS, MAX_EMPTY_ITEMS
from grotto_wire.values.parts import Part, Sink
from grotto_wire.values.source import Source
from grotto_wire.values.texts import join_texts, split_texts

MAX_CODE_POINT = 0x10FFFF


# ---- encode ----


def encoders() -> dict[type, Callable[[Any, Sink], Any]]:
    """Returns the codecs by type; numpy is imported already."""
    import numpy as np

    scalars = {kind for kind in np.sctypeDict.values() if kind is not np.object_}
    kinds = {type(np.dtype(kind)) for kind in np.sctypeDict.values()}
    return {
        np.ndarray: _array,
        **dict.fromkeys(scalars, _scalar),
        **dict.fromkeys(kinds, _type),
    }


def _array(value: Any, sink: Sink) -> Any:
    if value.dtype.kind == "O":
        return _object_array(value)
    if value.dtype.kind == "T":
        return _string_array(value, sink)
    dtype = dtypes.number(value.dtype, sink)
    if dtype is None:
        return NotImplemented
    flags = value.flags
    fortran = bool(flags.f_contiguous and not flags.c_contiguous)
    return nodes.Array(dtype, list(value.shape), fortran, sink.buffer(_memory(value, fortran)))


def _memory(value: Any, fortran: bool) -> memoryview:
    """Returns the array's bytes in its own order; a view unless it is strided."""
    import numpy as np

    if value.nbytes == 0:
        return memoryview(b"")
    flat = value.reshape(-1, order="F" if fortran else "C")
    return memoryview(np.ascontiguousarray(flat).view(np.uint8))


def _object_array(value: Any) -> Any:
    shape = list(value.shape)
    items = value.reshape(-1).tolist()
    if all_inline(items):
        return nodes.ObjectArray(shape, items)

    def label(i: int) -> str:
        import numpy as np

        return f"[{', '.join(str(int(n)) for n in np.unravel_index(i, value.shape))}]"

    return Part(
        items,
        lambda cells: nodes.ObjectArray(shape, cells),
        label,
        "numpy.ndarray",
        levels=ARRAY_DEPTH,
    )


def _string_array(value: Any, sink: Sink) -> Any:
    if hasattr(value.dtype, "na_object"):
        return NotImplemented
    lengths, text = join_texts(value.reshape(-1).tolist())
    return nodes.StringArray(list(value.shape), sink.buffer(lengths), sink.buffer(text))


def _scalar(value: Any, sink: Sink) -> Any:
    import numpy as np

    array = np.array(value, dtype=value.dtype)
    dtype = dtypes.number(array.dtype, sink)
    if dtype is None or (array.dtype.kind in "SU" and array[()] != value):  # zeros at its end
        return NotImplemented
    return nodes.NumpyScalar(dtype, array.tobytes())


def _type(value: Any, sink: Sink) -> Any:
    dtype = None if value.metadata else dtypes.number(value, sink)
    return NotImplemented if dtype is None else nodes.NumpyType(dtype)


# ---- decode ----


def shape_of(shape: list[int]) -> int:
    """Returns the number of elements; raises BadEnvelope for an impossible shape."""
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= n < 2**62 for n in shape):
        raise BadEnvelope("an array has no possible shape")
    return math.prod(shape)


def _read_array(node: nodes.Array, source: Source) -> Any:
    import numpy as np

    dtype, data = source.dtype(node.dtype), source.buffer(node.buffer)
    count = shape_of(node.shape)
    if count * dtype.itemsize != data.nbytes:
        raise BadEnvelope("an array's shape does not fit its buffer")
    if dtype.itemsize == 0 and count > MAX_EMPTY_ITEMS:
        raise BadEnvelope("an array has too many elements for its bytes")
    if count * dtype.itemsize == 0:
        return np.zeros(tuple(node.shape), dtype)
    array = np.ndarray(tuple(node.shape), dtype, data, order="F" if node.fortran else "C")
    check_content(array.reshape(-1, order="F" if node.fortran else "C"), source)
    return array


def check_content(flat: Any, source: Source) -> None:
    """Raises BadEnvelope for bytes that are no value of their type.

    Libraries trust a boolean's byte: pandas finds more than two different ones, and
    code that adds the bytes of a mask up counts wrong. A code point over 0x10FFFF
    makes a string that is none.
    """
    import numpy as np

    dtype = flat.dtype
    if dtype.subdtype is not None or dtype.names is not None:
        source.spend(len(dtype.names or ()))
        for name in dtype.names or ():
            check_content(flat[name].reshape(-1), source)
    elif dtype.kind == "b" and flat.size and flat.view(np.uint8).max() > 1:
        raise BadEnvelope("a boolean is neither 0 nor 1")
    elif dtype.kind == "U" and dtype.itemsize and flat.size:
        points = np.ascontiguousarray(flat).view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if points.max() > MAX_CODE_POINT:
            raise BadEnvelope("a character is no Unicode code point")


def _read_object_array(node: nodes.ObjectArray, source: Source) -> Any:
    import numpy as np

    if shape_of(node.shape) != len(node.items):
        raise BadEnvelope("an object array's shape does not fit its items")
    source.weigh_keys(node.items)
    # Not by assignment: that would unwrap items that are arrays of no dimension.
    array: Any = np.fromiter(source.values(node.items), dtype=object, count=len(node.items))
    return array.reshape(tuple(node.shape))


def _read_string_array(node: nodes.StringArray, source: Source) -> Any:
    import numpy as np

    texts = split_texts(source.buffer(node.lengths), source.buffer(node.text))
    if shape_of(node.shape) != len(texts):
        raise BadEnvelope("a string array's shape does not fit its items")
    return np.array(texts, dtype=np.dtypes.StringDType()).reshape(tuple(node.shape))


def _read_scalar(node: nodes.NumpyScalar, source: Source) -> Any:
    import numpy as np

    dtype = source.dtype(node.dtype)
    if len(node.data) != dtype.itemsize:
        raise BadEnvelope("a numpy scalar's bytes do not fit its type")
    source.weigh(len(node.data) // 16)
    if dtype.itemsize == 0:
        return np.zeros((), dtype)[()]
    array = np.ndarray((1,), dtype, bytearray(node.data))
    check_content(array, source)
    return array[0]


def _read_type(node: nodes.NumpyType, source: Source) -> Any:
    return source.dtype(node.dtype)


BUILDERS: dict[type, Callable[[Any, Source], Any]] = {
    nodes.Array: _read_array,
    nodes.ObjectArray: _read_object_array,
    nodes.StringArray: _read_string_array,
    nodes.NumpyScalar: _read_scalar,
    nodes.NumpyType: _read_type,
}
