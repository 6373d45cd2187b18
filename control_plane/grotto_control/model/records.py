"""What the control plane remembers: keys, sessions, sandboxes. Frozen and serialisable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from grotto_control.model.limits import Limits


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as stored: never the key, only its SHA-256."""

    key_id: str
    digest: bytes
    tenant: str
    label: str
    created_s: float
    revoked_s: float | None = None


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is really in force around a sandbox, as its daemon probed it."""

    backend: str
    level: str
    layers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


class SessionStatus(StrEnum):
    CREATING = "creating"
    READY = "ready"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session of one tenant. Times are Unix seconds."""

    session_id: str
    tenant: str
    status: SessionStatus
    image: str
    policy: str
    limits: Limits
    labels: Mapping[str, str]
    created_s: float
    expires_s: float
    idle_s: float
    idempotency_key: str | None
    request_digest: bytes
    sandbox_id: str | None = None
    isolation: Isolation | None = None
    python_version: str = ""
    codecs: tuple[str, ...] = ()
    status_note: str = ""


@dataclass(frozen=True, slots=True)
class SandboxHandle:
    """How a backend finds a sandbox again, in this process or after a restart."""

    sandbox_id: str
    pid: int
    """Of the daemon, on this host; 0 when it is not known."""
    start_ticks: int
    """Start time of that process (proc(5), field 22): tells it from a later one of the same pid."""
    run_dir: str
    """Host directory that holds the daemon's socket `r.sock`."""
    uid: int | None = None
    """The sandbox's own user on this host, the daemon's in a container; None when it shares
    the control plane's."""
    container_id: str | None = None
    """Of a sandbox that is a container, as its engine numbers it."""


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """A sandbox as stored. `handle` is None until the backend has started it."""

    sandbox_id: str
    token: str
    disk_bytes: int
    created_s: float
    handle: SandboxHandle | None = None
    session_id: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class SandboxHello:
    """A daemon's checked answer to the handshake."""

    python_version: str
    codecs: tuple[str, ...]
    isolation: Isolation
    session_id: str | None
