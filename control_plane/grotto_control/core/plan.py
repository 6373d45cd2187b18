"""What to do next, as a pure function of what is: no I/O, no clock, no randomness."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from grotto_control.core.backend import Found, Kind
from grotto_control.model.records import SandboxHandle, SessionStatus


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Durations in seconds."""

    pool_size: int = 1
    """Warm sandboxes of each kind that is kept warm."""
    max_sessions: int = 64
    dangling_grace_s: float = 10.0
    """A sandbox on the backend that no record knows is removed at this age."""
    ping_every_s: float = 15.0
    """Well within the daemon's orphan grace, so that it knows it is wanted."""
    unresponsive_s: float = 60.0
    """A living sandbox that has failed to answer for so long is given up."""
    sweep_backoff_s: float = 15.0
    """A removal that the backend refused is not tried again so soon."""
    start_backoff_s: float = 15.0
    """No warm sandbox is tried again so soon after one failed to start."""


@dataclass(frozen=True, slots=True)
class SessionView:
    tenant: str
    session_id: str
    status: SessionStatus
    expires_s: float
    idle_s: float
    idle_since_s: float | None
    """None: a call on it is running."""
    sandbox_id: str | None


@dataclass(frozen=True, slots=True)
class SandboxView:
    sandbox_id: str
    session: tuple[str, str] | None
    """(tenant, session id) it is bound to; None: warm."""
    answered_s: float
    unanswered_s: float | None = None
    """When it first failed to answer since; None: it has not failed. Silence alone is no
    failure: this process itself may have been stopped."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    sessions: Sequence[SessionView]
    sandboxes: Sequence[SandboxView]
    found: Sequence[Found] | None = ()
    """None: the backend cannot be asked."""
    known: frozenset[str] = frozenset()
    """Ids of all recorded sandboxes, those being started or ended included."""
    warm: Mapping[Kind, int] = field(default_factory=dict)
    """Warm sandboxes and those being started to be warm, of each kind that is kept warm."""
    failed_start_s: float | None = None
    failed_sweeps_s: Mapping[str, float] = field(default_factory=dict)
    """When the removal of a stray sandbox last failed, by its id."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Close a session."""

    tenant: str
    session_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Lose:
    """Mark a session lost and destroy its sandbox."""

    tenant: str
    session_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Destroy:
    sandbox_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """Remove a sandbox that no record knows."""

    handle: SandboxHandle


@dataclass(frozen=True, slots=True)
class Ping:
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class StartWarm:
    kind: Kind
    count: int


Action = Expire | Lose | Destroy | Sweep | Ping | StartWarm


def plan(snapshot: Snapshot, rules: PlanRules, now_s: float) -> list[Action]:
    """Returns the actions due at `now_s` (Unix seconds), at most one per session or sandbox."""
    return [
        *_of_sessions(snapshot, now_s),
        *_of_sandboxes(snapshot, rules, now_s),
        *_of_strangers(snapshot, rules, now_s),
        *_of_pool(snapshot, rules, now_s),
    ]


def _of_sessions(snapshot: Snapshot, now_s: float) -> Iterator[Action]:
    running = {sandbox.sandbox_id for sandbox in snapshot.sandboxes}
    for session in snapshot.sessions:
        if session.status is SessionStatus.CREATING:
            continue
        if now_s >= session.expires_s:
            yield Expire(session.tenant, session.session_id, "its time to live is over")
        elif session.status is SessionStatus.LOST:
            continue
        elif _is_idle(session, now_s):
            yield Expire(session.tenant, session.session_id, "it was idle for too long")
        elif session.sandbox_id not in running:
            yield Lose(session.tenant, session.session_id, "its sandbox is gone")


def _of_sandboxes(snapshot: Snapshot, rules: PlanRules, now_s: float) -> Iterator[Action]:
    sessions = {(session.tenant, session.session_id) for session in snapshot.sessions}
    for sandbox in snapshot.sandboxes:
        if sandbox.session is not None and sandbox.session not in sessions:
            yield Destroy(sandbox.sandbox_id, "its session is gone")
        elif _is_unresponsive(sandbox, rules, now_s):
            yield _give_up(sandbox)
        elif now_s - sandbox.answered_s >= rules.ping_every_s:
            yield Ping(sandbox.sandbox_id)


def _of_strangers(snapshot: Snapshot, rules: PlanRules, now_s: float) -> Iterator[Action]:
    for found in snapshot.found or ():
        sandbox_id = found.handle.sandbox_id
        due_s = found.created_s + rules.dangling_grace_s
        if (failed_s := snapshot.failed_sweeps_s.get(sandbox_id)) is not None:
            due_s = max(due_s, failed_s + rules.sweep_backoff_s)
        if now_s >= due_s and sandbox_id not in snapshot.known:
            yield Sweep(found.handle)


def _of_pool(snapshot: Snapshot, rules: PlanRules, now_s: float) -> Iterator[Action]:
    failed_s = snapshot.failed_start_s
    if snapshot.found is None:
        return  # nothing would start there
    if failed_s is not None and now_s - failed_s < rules.start_backoff_s:
        return
    live = sum(session.status is not SessionStatus.LOST for session in snapshot.sessions)
    room = rules.max_sessions - live - sum(snapshot.warm.values())
    for kind, warm in snapshot.warm.items():
        missing = min(rules.pool_size - warm, room)
        if missing > 0:
            room -= missing
            yield StartWarm(kind, missing)


def _is_unresponsive(sandbox: SandboxView, rules: PlanRules, now_s: float) -> bool:
    since_s = sandbox.unanswered_s
    return since_s is not None and now_s - since_s >= rules.unresponsive_s


def _give_up(sandbox: SandboxView) -> Action:
    if sandbox.session is None:
        return Destroy(sandbox.sandbox_id, "it does not answer")
    return Lose(*sandbox.session, "its sandbox does not answer")


def _is_idle(session: SessionView, now_s: float) -> bool:
    return session.idle_since_s is not None and now_s - session.idle_since_s >= session.idle_s
