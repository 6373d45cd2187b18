"""Many strings as two buffers: lengths in characters, and one run of UTF-8."""

from itertools import accumulate, pairwise

from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.scalars import text_bytes, text_of

LENGTH_BYTES = 8


def join_texts(texts: list[str]) -> tuple[bytes, bytes]:
    """Returns the lengths (int64, little-endian) and the text."""
    import numpy as np

    lengths = np.fromiter(map(len, texts), dtype="<i8", count=len(texts))
    return lengths.tobytes(), text_bytes("".join(texts))


def split_texts(lengths: memoryview, text: memoryview) -> list[str]:
    """Returns the strings; raises BadEnvelope when the lengths do not fit the text."""
    import numpy as np

    if lengths.nbytes % LENGTH_BYTES:
        raise BadEnvelope("the lengths of strings are cut off")
    counts = np.frombuffer(lengths, dtype="<i8")
    run = text_of(text)
    if counts.size and (counts.min() < 0 or counts.max() > len(run)):
        raise BadEnvelope("a string has no possible length")
    ends = list(accumulate(counts.tolist(), initial=0))
    if ends[-1] != len(run):
        raise BadEnvelope("the lengths of strings do not fit their text")
    return [run[start:end] for start, end in pairwise(ends)]
