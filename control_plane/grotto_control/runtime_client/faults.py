"""Failed calls to a daemon, as errors of ours."""

import grpc

from grotto_control.model.errors import GrottoError, Internal, SandboxUnreachable
from grotto_control.model.text import visible
from grotto_proto.metadata import unpack_error
from grotto_proto.v1 import errors_pb2

MAX_MESSAGE_CHARS = 500
MAX_HINT_CHARS = 300

REASONS_OF_A_DAEMON = frozenset(
    {
        errors_pb2.ERROR_REASON_NOT_FOUND,
        errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
        errors_pb2.ERROR_REASON_INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_SESSION_LOST,
        errors_pb2.ERROR_REASON_UNTRANSFERABLE,
        errors_pb2.ERROR_REASON_VALUE_TOO_LARGE,
        errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_UNAVAILABLE,
        errors_pb2.ERROR_REASON_VERSION_MISMATCH,
        errors_pb2.ERROR_REASON_INTERNAL,
    }
)
"""The others (keys, rights, capacity) are the control plane's to give."""

_NO_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


def misbehaved(what: str) -> Internal:
    """Returns the error for a daemon that does not keep to the protocol."""
    return Internal(
        f"the session's sandbox misbehaved: {what}.", "close the session and create a new one."
    )


def translated(error: grpc.aio.AioRpcError) -> GrottoError | SandboxUnreachable:
    """Returns what a failed call means; text of the daemon is capped and escaped."""
    detail = unpack_error(error.trailing_metadata())
    if detail is not None:
        if detail.reason not in REASONS_OF_A_DAEMON:
            return misbehaved("it gave a reason that is not its to give")
        return GrottoError(
            visible(detail.message, MAX_MESSAGE_CHARS),
            visible(detail.hint, MAX_HINT_CHARS),
            detail.reason,
        )
    if error.code() in _NO_ANSWER:
        return SandboxUnreachable("its daemon does not answer")
    return misbehaved(f"its daemon failed with {error.code().name}")
