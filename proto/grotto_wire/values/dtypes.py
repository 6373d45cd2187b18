"""numpy data types on the wire: a table of plain names and records.

A type is built from a whitelisted description only; a type that holds Python
objects has none, so raw bytes never become pointers.
"""

import math
import re
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.limits import MAX_DIMENSIONS, MAX_DTYPE_FIELDS, MAX_ITEM_BYTES
from grotto_wire.values.parts import Sink

_NUMBER = r"[|]b1|[|][iu]1|[<>][iu][248]|[<>]f(2|4|8|12|16)|[<>]c(8|16|24|32)"
_TEXT = r"[|][SV][0-9]{1,10}|[<>]U[0-9]{1,9}"
_TIME = r"[<>][Mm]8(\[[1-9][0-9]{0,8}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
_PLAIN = re.compile(f"{_NUMBER}|{_TEXT}|{_TIME}")


# ---- encode ----


def number(dtype: Any, sink: Sink) -> int | None:
    """Returns the number of a data type in the envelope, or None if it has no description.

    A type with Python objects in it, or one that a library registered, has none.
    """
    if dtype.hasobject or dtype.kind not in "biufcSUVMm":
        return None
    if dtype.names is None and dtype.subdtype is None and _plain(dtype) is None:
        return None
    fields = None
    if dtype.names is not None:
        fields = [_field(name, dtype.fields[name], sink) for name in dtype.names]
        if any(field is None for field in fields):
            return None
    key = (dtype.str, dtype.itemsize, dtype.isalignedstruct, _frozen(fields))
    return sink.dtype(key, lambda: _describe(dtype, fields))


def _plain(dtype: Any) -> str | None:
    text = str(dtype.str)
    if dtype.kind in "Mm" and "[" in text and not text[text.index("[") + 1].isdigit():
        text = text.replace("[", "[1")
    return text if _PLAIN.fullmatch(text) else None


def _field(name: str, entry: tuple[Any, ...], sink: Sink) -> nodes.Field | None:
    dtype, offset, *title = entry
    base, shape = dtype.subdtype or (dtype, ())
    index = number(base, sink)
    if index is None or (title and type(title[0]) is not str):
        return None
    return nodes.Field(name, title[0] if title else None, index, list(shape), offset)


def _frozen(fields: list[Any] | None) -> Any:
    if fields is None:
        return None
    return tuple((f.name, f.title, f.dtype, tuple(f.shape), f.offset) for f in fields)


def _describe(dtype: Any, fields: list[Any] | None) -> nodes.DType:
    if fields is None:
        return _plain(dtype) or ""
    return nodes.Record(dtype.itemsize, dtype.isalignedstruct, fields)


# ---- decode ----


def read_table(descriptions: list[nodes.DType]) -> list[Any]:
    """Returns the numpy data types; raises BadEnvelope for any that is not whitelisted."""
    found: list[Any] = []
    leaves: list[int] = []
    for description in descriptions:
        if isinstance(description, str):
            found.append(_read_plain(description))
            leaves.append(1)
        else:
            leaves.append(_leaves(description, leaves))
            found.append(_read_record(description, found))
    return found


def _read_plain(text: str) -> Any:
    import numpy as np

    if not _PLAIN.fullmatch(text):
        raise BadEnvelope("a data type is not one that travels")
    dtype = np.dtype(text)
    if dtype.hasobject or dtype.itemsize > MAX_ITEM_BYTES:
        raise BadEnvelope("a data type is not one that travels")
    return dtype


def _leaves(record: nodes.Record, known: list[int]) -> int:
    """Fields of a record, those of nested records included: nesting can double them."""
    total = 1
    for field in record.fields:
        if not 0 <= field.dtype < len(known):
            raise BadEnvelope("a field refers to a data type that comes after it")
        total += known[field.dtype]
    if total > MAX_DTYPE_FIELDS:
        raise BadEnvelope(f"a data type has more than {MAX_DTYPE_FIELDS} fields")
    return total


def _read_record(record: nodes.Record, known: list[Any]) -> Any:
    import numpy as np

    formats = []
    for field in record.fields:
        shape = tuple(field.shape)
        if len(shape) > MAX_DIMENSIONS or any(n < 0 for n in shape):
            raise BadEnvelope("a field has no possible shape")
        size = known[field.dtype].itemsize * math.prod(shape)
        if not 0 <= field.offset <= field.offset + size <= record.item_bytes <= MAX_ITEM_BYTES:
            raise BadEnvelope("a field lies outside its record")
        formats.append((known[field.dtype], shape) if shape else known[field.dtype])
    return np.dtype(
        {
            "names": [field.name for field in record.fields],
            "formats": formats,
            "offsets": [field.offset for field in record.fields],
            "titles": [field.title for field in record.fields],
            "itemsize": record.item_bytes,
        },
        align=record.aligned,
    )
