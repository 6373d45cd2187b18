"""The framing of chunk messages, read without copying the chunk.

PutValueRequest, UploadFileRequest, GetValueChunk, FileChunk and their counterparts
at the daemon all carry the bytes in field 2, so a chunk message is the same bytes on
both hops and is forwarded as it came. See the encoding guide of Protocol Buffers.
"""

_TAG = 0x12  # field 2, length-delimited
_MAX_VARINT_BYTES = 4  # enough for 256 MiB; a chunk has at most 1 MiB


def chunk_bytes(raw: bytes) -> int | None:
    """Returns the length of the chunk in a serialised message, or None if it is none."""
    if not raw or raw[0] != _TAG:
        return None
    length = 0
    for index in range(1, min(len(raw), 1 + _MAX_VARINT_BYTES)):
        byte = raw[index]
        length |= (byte & 0x7F) << (7 * (index - 1))
        if byte < 0x80:
            return length if len(raw) == index + 1 + length else None
    return None
