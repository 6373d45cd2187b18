"""Values at the client's end of the wire.

Encodes with dill for what has no codec, because the sandbox runs untrusted code
anyway. Decodes typed data only: nothing that a sandbox sent is ever unpickled.
"""

from collections.abc import Mapping

from grotto._by_value import dump
from grotto_wire import values
from grotto_wire.values import Segment, Untransferable, size, type_name

__all__ = ["decode", "encode_items", "size"]


def encode_items(items: Mapping[str, object]) -> list[Segment]:
    """Returns the segments of an envelope that holds a dictionary of the items.

    Big arrays are passed on as views: leave the values alone until they are sent.
    Raises Untransferable, whose path starts with the item's name.
    """
    return values.encode(dict(items), foreign=_dumped, labels=tuple(items))


def decode(payload: memoryview | bytearray) -> object:
    """Returns the value of an envelope from a sandbox; raises BadEnvelope.

    Arrays are views on `payload`, which they keep alive and as writable as it is.
    """
    return values.decode(payload)


def _dumped(value: object, path: str) -> bytes:
    try:
        return dump(value)
    except (Exception, SystemExit) as error:
        reason = f"it cannot be pickled ({type(error).__name__}: {str(error)[:300]})"
        raise Untransferable(path, type_name(type(value)), reason) from error
