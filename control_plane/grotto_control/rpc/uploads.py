"""Streams of chunks from a client: a header, then exactly the bytes it declares."""

from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.message import DecodeError

from grotto_control.core.chunks import chunk_bytes
from grotto_control.model.errors import InvalidArgument
from grotto_control.model.limits import MAX_CHUNK_BYTES
from grotto_proto.v1 import sessions_pb2

_Opening = TypeVar("_Opening", sessions_pb2.PutValueRequest, sessions_pb2.UploadFileRequest)


async def opening(messages: AsyncIterator[bytes], kind: type[_Opening]) -> _Opening:
    """Returns the first message, which holds the header; raises InvalidArgument."""
    raw = await anext(aiter(messages), None)
    try:
        first = kind.FromString(raw or b"")
    except DecodeError:
        first = kind()
    if first.WhichOneof("part") != "header":
        raise InvalidArgument("the first message of the stream must be its header.")
    return first


async def whole(messages: AsyncIterator[bytes], size_bytes: int) -> AsyncIterator[bytes]:
    """Yields the chunk messages as they came; raises InvalidArgument unless they add up.

    The last one is held back until the stream has ended well: the daemon, which may see a
    cancelled stream as one that just ends, must not have had all of it by then.
    """
    sent, held = 0, b""
    async for raw in messages:
        size = chunk_bytes(raw)
        if size is None or size > MAX_CHUNK_BYTES:
            raise InvalidArgument(
                "every message after the header must be a chunk "
                f"of at most {MAX_CHUNK_BYTES} bytes."
            )
        sent += size
        if sent > size_bytes:
            raise InvalidArgument(f"the stream has more than the {size_bytes} bytes it declared.")
        if held:
            yield held
        held = raw
    if sent < size_bytes:
        raise InvalidArgument(
            f"the stream was cut: {sent} of {size_bytes} bytes came.", "send it again."
        )
    if held:
        yield held
