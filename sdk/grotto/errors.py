"""Every exception the SDK raises, and the one table from error reasons to them.

    GrottoError                    the platform failed, or a call was wrong
    ├── AuthenticationError        no key, or a key the server does not know
    ├── PermissionDeniedError      the key is good, the act is not allowed to it
    ├── NotFoundError              no such session, execution, variable or file
    ├── QuotaExceededError         a limit of the tenant or the session is reached
    ├── CapacityError              the server has no room now
    ├── InvalidArgumentError       the call itself is wrong; the message says what to change
    ├── SessionLostError           the session's sandbox is gone
    ├── UntransferableError        a value has no form that can travel; `path` says which part
    ├── ValueTooLargeError         a value is over the size limit
    ├── DeadlineExceededError      no answer in time
    ├── UnavailableError           the server cannot be reached
    ├── VersionMismatchError       client and server do not understand each other
    └── ExecutionError             from `Execution.raise_if_failed()` alone

What tenant code does is never an exception: it is an `Execution`. `grpc.RpcError`
never leaves the SDK; it is chained as the cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from grotto_proto.v1 import errors_pb2

if TYPE_CHECKING:
    from grotto._execution import Execution


class GrottoError(Exception):
    """Root of the tree; raised itself for failures inside the platform.

    `message` is one sentence on what was wrong, `hint` one on what to do (may be
    empty), `request_id` what the server's log calls the request (may be empty).
    """

    def __init__(self, message: str, *, hint: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.request_id = request_id

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        stop = "" if self.message.endswith((".", "!", "?", ":", "\n")) else "."
        return f"{self.message}{stop} {self.hint}"


class AuthenticationError(GrottoError):
    """There is no API key, or the server does not accept it."""


class PermissionDeniedError(GrottoError):
    """The key is good but does not allow this."""


class NotFoundError(GrottoError):
    """There is no such session, execution, variable or file for this key."""


class QuotaExceededError(GrottoError):
    """A limit of the tenant or of the session is reached."""


class CapacityError(GrottoError):
    """The server has no room for another sandbox now."""


class InvalidArgumentError(GrottoError):
    """An argument is wrong; nothing was done."""


class SessionLostError(GrottoError):
    """The session's sandbox is gone, and its state with it."""


class UntransferableError(GrottoError):
    """A value cannot travel; `path` leads to the offending part, `type_name` names its type."""

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        type_name: str = "",
        hint: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message, hint=hint, request_id=request_id)
        self.path = path
        self.type_name = type_name


class ValueTooLargeError(GrottoError):
    """A value is over the size limit of the session or of this client."""


class DeadlineExceededError(GrottoError):
    """The server did not answer in time; whether it acted is not known."""


class UnavailableError(GrottoError):
    """The server cannot be reached, or went away during the call."""


class VersionMismatchError(GrottoError):
    """Client and server, or client and sandbox, do not understand each other."""


class ExecutionError(GrottoError):
    """Tenant code did not end well; raised by `Execution.raise_if_failed()` only."""

    def __init__(self, message: str, execution: Execution) -> None:
        super().__init__(message)
        self.execution = execution


_Reason = errors_pb2.ErrorReason

EXCEPTIONS: Mapping[errors_pb2.ErrorReason.ValueType, type[GrottoError]] = {
    _Reason.ERROR_REASON_UNSPECIFIED: GrottoError,
    _Reason.ERROR_REASON_UNAUTHENTICATED: AuthenticationError,
    _Reason.ERROR_REASON_PERMISSION_DENIED: PermissionDeniedError,
    _Reason.ERROR_REASON_NOT_FOUND: NotFoundError,
    _Reason.ERROR_REASON_QUOTA_EXCEEDED: QuotaExceededError,
    _Reason.ERROR_REASON_CAPACITY: CapacityError,
    _Reason.ERROR_REASON_INVALID_ARGUMENT: InvalidArgumentError,
    _Reason.ERROR_REASON_SESSION_LOST: SessionLostError,
    _Reason.ERROR_REASON_UNTRANSFERABLE: UntransferableError,
    _Reason.ERROR_REASON_VALUE_TOO_LARGE: ValueTooLargeError,
    _Reason.ERROR_REASON_DEADLINE_EXCEEDED: DeadlineExceededError,
    _Reason.ERROR_REASON_UNAVAILABLE: UnavailableError,
    _Reason.ERROR_REASON_VERSION_MISMATCH: VersionMismatchError,
    _Reason.ERROR_REASON_INTERNAL: GrottoError,
}
"""The one table from what the wire says to what the caller catches; total over the enum."""
