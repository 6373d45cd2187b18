"""The planner as a table: from a snapshot and a time to actions, nothing else."""

from dataclasses import replace

import pytest

from grotto_control.core.backend import Found, Kind
from grotto_control.core.plan import (
    Action,
    Destroy,
    Expire,
    Lose,
    Ping,
    PlanRules,
    SandboxView,
    SessionView,
    Snapshot,
    StartWarm,
    Sweep,
    plan,
)
from grotto_control.model.records import SandboxHandle, SessionStatus

NOW = 1000.0
KIND = Kind("data", 1 << 28)
RULES = PlanRules(
    pool_size=0,
    max_sessions=4,
    dangling_grace_s=10,
    ping_every_s=15,
    unresponsive_s=60,
    start_backoff_s=15,
)
READY = SessionView("ada", "s_1", SessionStatus.READY, 2000.0, 100.0, NOW - 1, "b1")
CREATING = replace(READY, status=SessionStatus.CREATING, sandbox_id=None)
LOST = replace(READY, status=SessionStatus.LOST, sandbox_id=None)
BOUND = SandboxView("b1", ("ada", "s_1"), NOW - 1)
WARM = SandboxView("b2", None, NOW - 1)
STRAY = SandboxHandle("b9", 4711, 1, "/run/b9")


def snapshot(
    *things: SessionView | SandboxView,
    found: tuple[Found, ...] = (),
    warm: int = 0,
    failed_start_s: float | None = None,
) -> Snapshot:
    sandboxes = [thing for thing in things if isinstance(thing, SandboxView)]
    return Snapshot(
        sessions=[thing for thing in things if isinstance(thing, SessionView)],
        sandboxes=sandboxes,
        found=found,
        known=frozenset(sandbox.sandbox_id for sandbox in sandboxes),
        warm={KIND: warm},
        failed_start_s=failed_start_s,
    )


CASES: list[tuple[str, Snapshot, list[Action]]] = [
    ("nothing", snapshot(), []),
    ("all is well", snapshot(READY, BOUND, WARM), []),
    ("a session being created has no sandbox yet", snapshot(CREATING), []),
    (
        "time to live over",
        snapshot(replace(READY, expires_s=NOW), BOUND),
        [Expire("ada", "s_1", "its time to live is over")],
    ),
    (
        "idle",
        snapshot(replace(READY, idle_since_s=NOW - 100), BOUND),
        [Expire("ada", "s_1", "it was idle for too long")],
    ),
    ("idle for less", snapshot(replace(READY, idle_since_s=NOW - 99.9), BOUND), []),
    ("a running call is not idle", snapshot(replace(READY, idle_since_s=None), BOUND), []),
    ("a lost session stays to say so", snapshot(replace(LOST, idle_since_s=0.0)), []),
    (
        "a lost session expires",
        snapshot(replace(LOST, expires_s=NOW)),
        [Expire("ada", "s_1", "its time to live is over")],
    ),
    ("sandbox gone", snapshot(READY), [Lose("ada", "s_1", "its sandbox is gone")]),
    ("session gone", snapshot(BOUND), [Destroy("b1", "its session is gone")]),
    (
        "the same session id of another tenant does not keep a sandbox",
        snapshot(replace(READY, tenant="bob"), BOUND),
        [Destroy("b1", "its session is gone")],
    ),
    ("silent", snapshot(READY, replace(BOUND, answered_s=NOW - 15)), [Ping("b1")]),
    (
        "silent for very long, never asked: the server itself was stopped",
        snapshot(READY, replace(BOUND, answered_s=NOW - 9999)),
        [Ping("b1")],
    ),
    (
        "failed to answer for less than the grace",
        snapshot(READY, replace(BOUND, answered_s=NOW - 80, unanswered_s=NOW - 59)),
        [Ping("b1")],
    ),
    (
        "bound and unresponsive",
        snapshot(READY, replace(BOUND, answered_s=NOW - 80, unanswered_s=NOW - 60)),
        [Lose("ada", "s_1", "its sandbox does not answer")],
    ),
    (
        "warm and unresponsive",
        snapshot(replace(WARM, answered_s=NOW - 80, unanswered_s=NOW - 60)),
        [Destroy("b2", "it does not answer")],
    ),
    ("stray, young", snapshot(found=(Found(STRAY, NOW - 9),)), []),
    ("stray", snapshot(found=(Found(STRAY, NOW - 10),)), [Sweep(STRAY)]),
    (
        "stray, and its removal has just been refused",
        replace(snapshot(found=(Found(STRAY, 0.0),)), failed_sweeps_s={"b9": NOW - 14}),
        [],
    ),
    (
        "stray, and its removal was refused some time ago",
        replace(snapshot(found=(Found(STRAY, 0.0),)), failed_sweeps_s={"b9": NOW - 15}),
        [Sweep(STRAY)],
    ),
    (
        "the backend cannot be asked: what lives is pinged and ends in its time",
        replace(
            snapshot(replace(READY, expires_s=NOW), replace(BOUND, answered_s=NOW - 15), warm=0),
            found=None,
        ),
        [Expire("ada", "s_1", "its time to live is over"), Ping("b1")],
    ),
    (
        "found and known",
        snapshot(READY, BOUND, found=(Found(replace(STRAY, sandbox_id="b1"), 0.0),)),
        [],
    ),
]


@pytest.mark.parametrize(("_name", "given", "expected"), CASES, ids=[case[0] for case in CASES])
def test_plan(_name: str, given: Snapshot, expected: list[Action]) -> None:
    assert plan(given, RULES, NOW) == expected


@pytest.mark.parametrize(
    ("sessions", "warm", "failed_start_s", "expected"),
    [
        (0, 0, None, 2),
        (0, 1, None, 1),
        (0, 2, None, 0),
        (0, 3, None, 0),
        (3, 0, None, 1),  # no more than sessions could still be created
        (4, 0, None, 0),
        (0, 0, NOW - 14, 0),  # not again so soon after a failure
        (0, 0, NOW - 15, 2),
    ],
)
def test_the_pool_is_refilled(
    sessions: int, warm: int, failed_start_s: float | None, expected: int
) -> None:
    things = [
        thing
        for i in range(sessions)
        for thing in (
            replace(READY, session_id=f"s_{i}", sandbox_id=f"b{i}"),
            replace(BOUND, sandbox_id=f"b{i}", session=("ada", f"s_{i}")),
        )
    ]
    given = snapshot(*things, warm=warm, failed_start_s=failed_start_s)
    actions = plan(given, replace(RULES, pool_size=2), NOW)
    assert actions == ([StartWarm(KIND, expected)] if expected else [])


def test_nothing_is_warmed_while_the_backend_cannot_be_asked() -> None:
    assert plan(replace(snapshot(), found=None), replace(RULES, pool_size=2), NOW) == []


def test_lost_sessions_leave_room_for_warm_sandboxes() -> None:
    lost = [replace(LOST, session_id=f"s_{i}") for i in range(9)]
    assert plan(snapshot(*lost), replace(RULES, pool_size=1), NOW) == [StartWarm(KIND, 1)]


def test_each_kind_has_a_pool_of_its_own_within_what_may_live() -> None:
    bare = Kind("bare", 1 << 28)
    given = replace(snapshot(), warm={KIND: 1, bare: 0})
    assert plan(given, replace(RULES, pool_size=2), NOW) == [StartWarm(KIND, 1), StartWarm(bare, 2)]
    crowded = replace(given, warm={KIND: 0, bare: 1})
    rules = replace(RULES, pool_size=3, max_sessions=3)
    assert plan(crowded, rules, NOW) == [StartWarm(KIND, 2)]
