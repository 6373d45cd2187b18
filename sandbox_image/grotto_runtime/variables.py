"""What a worker said of its namespace, cut to what one reply can hold.

The worker is hostile: no text, size or number of entries is taken as it comes.
"""

from collections.abc import Iterable

from grotto_proto.v1 import values_pb2
from grotto_wire.frames import VariableInfo

MAX_REPLY_BYTES = 3 * 1024 * 1024
"""With room to spare below what a gRPC message may hold."""
MAX_VARIABLES = 2000
MAX_TEXT_BYTES = 800
MAX_DESCRIPTION_BYTES = 2000
_MAX_SIZE_BYTES = 2**62
_OVERHEAD_BYTES = 8  # tag and length of one entry


def reply(found: Iterable[VariableInfo]) -> values_pb2.Variables:
    """Returns the variables in their order; those past what a reply holds are left out."""
    variables = values_pb2.Variables()
    left_bytes = MAX_REPLY_BYTES
    for info in found:
        variable = _variable(info)
        left_bytes -= variable.ByteSize() + _OVERHEAD_BYTES
        if left_bytes < 0 or len(variables.variables) == MAX_VARIABLES:
            break
        variables.variables.append(variable)
    return variables


def _variable(info: VariableInfo) -> values_pb2.Variable:
    return values_pb2.Variable(
        name=_cut(info.name),
        type=_cut(info.type),
        size_bytes=max(0, min(info.size_bytes, _MAX_SIZE_BYTES)),
        preview=_cut(info.preview),
        description=_cut(info.description, MAX_DESCRIPTION_BYTES),
        origin="injected" if info.origin == "injected" else "created",
        signature=_cut(info.signature),
        doc=_cut(info.doc),
    )


def _cut(text: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    return text[:max_bytes].encode()[:max_bytes].decode("utf-8", "ignore")
