"""Codecs of values without parts: numbers, text, bytes, paths, singletons.

Types match exactly: a subclass is another type, and has no codec here.
"""

import decimal
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.limits import MAX_DECIMAL_CHARS, MAX_INTEGER_BYTES, OUT_OF_BAND_BYTES
from grotto_wire.values.parts import Sink
from grotto_wire.values.source import Source

ELLIPSIS, NOT_IMPLEMENTED, NOT_A_TIME, NOT_AVAILABLE = 0, 1, 2, 3
"""`Constant.which`; the last two are pandas.NaT and pandas.NA."""

PATHS: tuple[type, ...] = (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath)
"""By `Path.flavour`. WindowsPath travels as PureWindowsPath: the sandbox has no other."""


def has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def blob(data: bytes, sink: Sink) -> nodes.Blob:
    """Returns where bytes travel: in the header when they are few, else out of band."""
    return data if len(data) < OUT_OF_BAND_BYTES else sink.buffer(data)


def text_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def text_of(data: bytes | memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


# ---- encode ----


def _integer(value: int, _: Sink) -> nodes.Node:
    size = value.bit_length() // 8 + 1
    if size > MAX_INTEGER_BYTES:
        raise ValueError(f"an integer of {size:,} bytes is over the limit of {MAX_INTEGER_BYTES:,}")
    return nodes.Integer(value.to_bytes(size, "little", signed=True))


def _decimal(value: decimal.Decimal, _: Sink) -> nodes.Node:
    text = str(value)
    if len(text) > MAX_DECIMAL_CHARS:
        raise ValueError(f"a Decimal of {len(text):,} characters is over {MAX_DECIMAL_CHARS:,}")
    return nodes.Decimal(text)


def _path(value: pathlib.PurePath, _: Sink) -> nodes.Node:
    return nodes.Path(PATHS.index(type(value)), text_bytes(str(value)))


ENCODERS: dict[type, Callable[[Any, Sink], Any]] = {
    int: _integer,
    str: lambda value, sink: nodes.Text(blob(text_bytes(value), sink)),
    bytes: lambda value, sink: nodes.Bytes(blob(value, sink)),
    bytearray: lambda value, sink: nodes.ByteArray(blob(bytes(value), sink)),
    complex: lambda value, _: nodes.Complex(value.real, value.imag),
    type(...): lambda _, __: nodes.Constant(ELLIPSIS),
    type(NotImplemented): lambda _, __: nodes.Constant(NOT_IMPLEMENTED),
    decimal.Decimal: _decimal,
    uuid.UUID: lambda value, _: nodes.Uuid(value.bytes),
    **dict.fromkeys(PATHS, _path),
}


# ---- decode ----


def _read_integer(node: nodes.Integer, source: Source) -> int:
    if len(node.data) > MAX_INTEGER_BYTES:
        raise BadEnvelope("an integer is over the limit")
    source.weigh(len(node.data) // 8)
    return int.from_bytes(node.data, "little", signed=True)


def _read_blob(data: nodes.Blob, source: Source) -> bytes | memoryview:
    found = data if isinstance(data, bytes) else source.buffer(data)
    source.weigh(len(found) // 64)
    return found


def _read_constant(node: nodes.Constant, _: Source) -> object:
    if node.which == ELLIPSIS:
        return ...
    if node.which == NOT_IMPLEMENTED:
        return NotImplemented
    import pandas as pd

    if node.which not in (NOT_A_TIME, NOT_AVAILABLE):
        raise BadEnvelope("an unknown constant")
    return pd.NaT if node.which == NOT_A_TIME else pd.NA


def _read_decimal(node: nodes.Decimal, source: Source) -> decimal.Decimal:
    if len(node.text) > MAX_DECIMAL_CHARS:
        raise BadEnvelope("a Decimal is over the limit")
    source.weigh(len(node.text) // 8)
    # A context of its own: the caller's may not trap what is no number.
    return decimal.Decimal(node.text, decimal.Context(traps=[decimal.InvalidOperation]))


def _read_path(node: nodes.Path, _: Source) -> object:
    if not 0 <= node.flavour < len(PATHS):
        raise BadEnvelope("an unknown kind of path")
    return PATHS[node.flavour](text_of(node.data))


def _read_foreign(node: nodes.Foreign, source: Source) -> object:
    if source.foreign is None:
        raise BadEnvelope("it holds an object that only a sandbox may rebuild")
    return source.foreign(bytes(source.buffer(node.buffer)))


BUILDERS: dict[type, Callable[[Any, Source], object]] = {
    nodes.Integer: _read_integer,
    nodes.Text: lambda node, source: text_of(_read_blob(node.data, source)),
    nodes.Bytes: lambda node, source: bytes(_read_blob(node.data, source)),
    nodes.ByteArray: lambda node, source: bytearray(_read_blob(node.data, source)),
    nodes.Complex: lambda node, _: complex(node.real, node.imag),
    nodes.Constant: _read_constant,
    nodes.Decimal: _read_decimal,
    nodes.Uuid: lambda node, _: uuid.UUID(bytes=node.data),
    nodes.Path: _read_path,
    nodes.Foreign: _read_foreign,
}
