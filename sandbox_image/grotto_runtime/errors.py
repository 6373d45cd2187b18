"""How the daemon fails a call: a reason, a sentence, a hint; and the status they travel as."""

import grpc

from grotto_proto.v1 import errors_pb2

STATUS: dict["errors_pb2.ErrorReason.ValueType", grpc.StatusCode] = {
    errors_pb2.ERROR_REASON_UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    errors_pb2.ERROR_REASON_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    errors_pb2.ERROR_REASON_QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors_pb2.ERROR_REASON_INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_UNTRANSFERABLE: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_VALUE_TOO_LARGE: grpc.StatusCode.OUT_OF_RANGE,
    errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors_pb2.ERROR_REASON_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    errors_pb2.ERROR_REASON_VERSION_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_INTERNAL: grpc.StatusCode.INTERNAL,
}

FROM_WORKER: dict[str, "errors_pb2.ErrorReason.ValueType"] = {
    "not_found": errors_pb2.ERROR_REASON_NOT_FOUND,
    "invalid_argument": errors_pb2.ERROR_REASON_INVALID_ARGUMENT,
    "untransferable": errors_pb2.ERROR_REASON_UNTRANSFERABLE,
    "value_too_large": errors_pb2.ERROR_REASON_VALUE_TOO_LARGE,
    "version_mismatch": errors_pb2.ERROR_REASON_VERSION_MISMATCH,
}


class RuntimeFailure(Exception):
    """A call the daemon cannot carry out; nothing of the session was changed."""

    def __init__(
        self, reason: "errors_pb2.ErrorReason.ValueType", message: str, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.reason, self.message, self.hint = reason, message, hint


def invalid(message: str, hint: str = "") -> RuntimeFailure:
    return RuntimeFailure(errors_pb2.ERROR_REASON_INVALID_ARGUMENT, message, hint)


def not_found(message: str, hint: str = "") -> RuntimeFailure:
    return RuntimeFailure(errors_pb2.ERROR_REASON_NOT_FOUND, message, hint)
