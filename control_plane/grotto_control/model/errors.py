"""What the platform refuses or fails, each with its reason, one sentence and a hint.

    GrottoError
    ├── Unauthenticated     ├── InvalidArgument    ├── Unavailable
    ├── PermissionDenied    ├── SessionLost        ├── VersionMismatch
    ├── NotFound            ├── ValueTooLarge      ├── DeadlineExceeded
    ├── QuotaExceeded       ├── CapacityReached    └── Internal

What tenant code did is never one of these.
"""

from typing import ClassVar, TypeAlias

from grotto_proto.v1 import errors_pb2

Reason: TypeAlias = errors_pb2.ErrorReason.ValueType


class GrottoError(Exception):
    """A refused or failed call; `reason` decides its gRPC status."""

    default_reason: ClassVar[Reason] = errors_pb2.ERROR_REASON_INTERNAL

    def __init__(self, message: str, hint: str = "", reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reason: Reason = self.default_reason if reason is None else reason


class Unauthenticated(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_UNAUTHENTICATED


class PermissionDenied(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_PERMISSION_DENIED


class NotFound(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_NOT_FOUND


class QuotaExceeded(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_QUOTA_EXCEEDED


class CapacityReached(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_CAPACITY


class InvalidArgument(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_INVALID_ARGUMENT


class SessionLost(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_SESSION_LOST


class ValueTooLarge(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_VALUE_TOO_LARGE


class DeadlineExceeded(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED


class Unavailable(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_UNAVAILABLE


class VersionMismatch(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_VERSION_MISMATCH


class Internal(GrottoError):
    default_reason = errors_pb2.ERROR_REASON_INTERNAL


class SandboxUnreachable(Exception):
    """The daemon of a sandbox does not answer; whether the sandbox is dead is not known yet."""


class BackendFailure(Exception):
    """A backend could not start a sandbox: `message` says why, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
