"""Client library of Grotto: live, hardened Python sessions with native objects in and out.

    import grotto

    with grotto.local() as client, client.session() as s:
        s.inject("rate", 0.2)
        print(s.execute("rate * 100").result)

`connect` and `local` give the blocking client, `aconnect` and `alocal` the async
core. Imports neither the control plane nor anything that runs in a sandbox.
"""

from grotto._blocking import Client, Session, connect, local
from grotto._chunks import Transfer
from grotto._client import AsyncClient, aconnect, alocal
from grotto._execution import (
    Display,
    Event,
    Execution,
    ExecutionUsage,
    Finished,
    Outcome,
    Result,
    State,
    Stderr,
    Stdout,
    TenantError,
    Violation,
)
from grotto._records import FileInfo, Isolation, SessionInfo, SessionStatus, Usage, Variable
from grotto._session import AsyncSession
from grotto.errors import (
    AuthenticationError,
    CapacityError,
    DeadlineExceededError,
    ExecutionError,
    GrottoError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    SessionLostError,
    UnavailableError,
    UntransferableError,
    ValueTooLargeError,
    VersionMismatchError,
)
from grotto.limits import Limits

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "AuthenticationError",
    "CapacityError",
    "Client",
    "DeadlineExceededError",
    "Display",
    "Event",
    "Execution",
    "ExecutionError",
    "ExecutionUsage",
    "FileInfo",
    "Finished",
    "GrottoError",
    "InvalidArgumentError",
    "Isolation",
    "Limits",
    "NotFoundError",
    "Outcome",
    "PermissionDeniedError",
    "QuotaExceededError",
    "Result",
    "Session",
    "SessionInfo",
    "SessionLostError",
    "SessionStatus",
    "State",
    "Stderr",
    "Stdout",
    "TenantError",
    "Transfer",
    "UnavailableError",
    "UntransferableError",
    "Usage",
    "ValueTooLargeError",
    "Variable",
    "VersionMismatchError",
    "Violation",
    "aconnect",
    "alocal",
    "connect",
    "local",
]
