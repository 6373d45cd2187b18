"""Metadata keys of every RPC, and the error detail that travels in one of them."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from grotto_proto.v1 import errors_pb2

AUTHORIZATION = "authorization"
"""Client to control plane: `Bearer KEY`."""

REQUEST_ID = "grotto-request-id"
"""Chosen by the client, or by the control plane; appears in its log."""

TOKEN = "grotto-token"  # noqa: S105 - the name of the key
"""Control plane to daemon: the sandbox's own token."""

ERROR = "grotto-error-bin"
"""Trailing metadata of a failed call: a serialised `ErrorDetail`."""

MAX_ERROR_BYTES = 8192


def pack_error(
    reason: "errors_pb2.ErrorReason.ValueType", message: str, hint: str = ""
) -> tuple[tuple[str, bytes], ...]:
    """Returns trailing metadata that carries the error."""
    detail = errors_pb2.ErrorDetail(reason=reason, message=message[:2000], hint=hint[:1000])
    return ((ERROR, detail.SerializeToString()),)


def unpack_error(
    trailers: Iterable[tuple[str, str | bytes]] | None,
) -> errors_pb2.ErrorDetail | None:
    """Returns the error detail of a failed call, or None if it carries none that is sound."""
    for key, value in trailers or ():
        if key == ERROR and isinstance(value, bytes) and len(value) <= MAX_ERROR_BYTES:
            try:
                return errors_pb2.ErrorDetail.FromString(value)
            except DecodeError:
                return None
    return None
