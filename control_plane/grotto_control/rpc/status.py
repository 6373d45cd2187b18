"""The one table from reason to gRPC status."""

import grpc

from grotto_control.model.errors import Reason
from grotto_proto.v1 import errors_pb2

STATUS: dict[Reason, grpc.StatusCode] = {
    errors_pb2.ERROR_REASON_UNSPECIFIED: grpc.StatusCode.INTERNAL,
    errors_pb2.ERROR_REASON_UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    errors_pb2.ERROR_REASON_PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    errors_pb2.ERROR_REASON_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    errors_pb2.ERROR_REASON_QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors_pb2.ERROR_REASON_CAPACITY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors_pb2.ERROR_REASON_INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_SESSION_LOST: grpc.StatusCode.ABORTED,
    errors_pb2.ERROR_REASON_UNTRANSFERABLE: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_VALUE_TOO_LARGE: grpc.StatusCode.OUT_OF_RANGE,
    errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors_pb2.ERROR_REASON_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    errors_pb2.ERROR_REASON_VERSION_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_INTERNAL: grpc.StatusCode.INTERNAL,
}
