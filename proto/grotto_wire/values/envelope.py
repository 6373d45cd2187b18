"""The layout of an envelope in bytes: prefix, header, aligned buffers.

Owns offsets and lengths and nothing of what the bytes mean. Buffers are listed by
length alone: their offsets follow, so none can lie outside, overlap or repeat.
"""

import struct
from collections.abc import Sequence

import msgspec

from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.limits import MAX_HEADER_BYTES, MAX_NODES
from grotto_wire.values.nodes import Header

MAGIC = b"GRTV"
VERSION = 1
ALIGNMENT = 64
PREFIX = struct.Struct("<4sHHQ")
"""Magic, version, zero, length of the header in bytes."""

Segment = bytes | memoryview


class TooLarge(Exception):
    """The header would be over a cap; the message says which."""


def pack(header: Header, buffers: Sequence[memoryview]) -> list[Segment]:
    """Returns the segments of an envelope; the buffers are passed on, not copied.

    Raises TooLarge, and UnicodeEncodeError for text that is not Unicode.
    """
    body = msgspec.msgpack.encode(header)
    if len(body) > MAX_HEADER_BYTES:
        raise TooLarge(f"it has {len(body)} bytes outside arrays, the limit is {MAX_HEADER_BYTES}")
    segments: list[Segment] = [PREFIX.pack(MAGIC, VERSION, 0, len(body)) + body]
    end = len(segments[0])
    for buffer in buffers:
        padding = -end % ALIGNMENT
        if padding:
            segments.append(bytes(padding))
        segments.append(buffer)
        end += padding + buffer.nbytes
    return segments


def size(segments: Sequence[Segment]) -> int:
    """Returns the length of the envelope in bytes."""
    return sum(memoryview(segment).nbytes for segment in segments)


def unpack(payload: memoryview) -> tuple[Header, list[memoryview]]:
    """Returns the header and a view of each buffer; raises BadEnvelope."""
    if payload.nbytes < PREFIX.size:
        raise BadEnvelope("it is shorter than the prefix of an envelope")
    magic, version, zero, length = PREFIX.unpack(payload[: PREFIX.size])
    if magic != MAGIC or zero:
        raise BadEnvelope("it does not start like an envelope")
    if version != VERSION:
        raise BadEnvelope(f"it is of version {version}, this end reads version {VERSION}")
    if length > min(payload.nbytes - PREFIX.size, MAX_HEADER_BYTES):
        raise BadEnvelope("its header is cut off or over the limit")
    end = PREFIX.size + length
    header = _HEADER.decode(payload[PREFIX.size : end])
    if len(header.nodes) > MAX_NODES:
        raise BadEnvelope(f"it has {len(header.nodes)} nodes, the limit is {MAX_NODES}")
    return header, _views(payload, end, header.buffers)


_HEADER = msgspec.msgpack.Decoder(Header)


def _views(payload: memoryview, end: int, lengths: list[int]) -> list[memoryview]:
    views = []
    for length in lengths:
        start = end + -end % ALIGNMENT
        if not 0 <= length <= payload.nbytes - start:
            raise BadEnvelope("a buffer lies outside it")
        end = start + length
        views.append(payload[start:end])
    if end != payload.nbytes:
        raise BadEnvelope(f"it has {payload.nbytes} bytes where its header announces {end}")
    return views
