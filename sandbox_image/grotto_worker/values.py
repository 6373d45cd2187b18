"""Values at the sandbox's end of the wire.

The one place of the project that unpickles: what a client dumped is rebuilt here,
where untrusted code runs anyway. Nothing is pickled on the way out.
"""

from collections.abc import Sequence

import dill

from grotto_wire import values
from grotto_wire.values import BadEnvelope, Segment, Untransferable, size

__all__ = ["Undecodable", "Untransferable", "decode", "encode", "size"]


class Undecodable(Exception):
    """An envelope cannot be rebuilt here; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def decode(payload: memoryview) -> object:
    """Returns the value of an envelope; raises Undecodable.

    Arrays are views on `payload`, as writable as it is.
    """
    try:
        return values.decode(payload, foreign=_rebuild)
    except BadEnvelope as error:
        cause = error.__cause__
        if isinstance(cause, _NotRebuilt):
            raise Undecodable(str(cause), _HINT) from error
        raise Undecodable(f"the value cannot be decoded: {error}") from error


def encode(picked: tuple[object, ...], names: Sequence[str]) -> list[Segment]:
    """Returns the segments of an envelope that holds the named values as a tuple.

    Raises Untransferable, whose path starts with the variable's name.
    """
    return values.encode(picked, labels=names)


_HINT = (
    "A function or object of a library needs that library in the sandbox; "
    "send plain data, or define what it needs in the code you inject."
)


class _NotRebuilt(Exception):
    """What a client dumped does not load here."""


def _rebuild(data: bytes) -> object:
    try:
        return dill.loads(data)  # noqa: S301 - the sandbox is where untrusted code runs
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {str(error)[:500]}"
        raise _NotRebuilt(f"an object cannot be rebuilt in the sandbox: {what}") from error
