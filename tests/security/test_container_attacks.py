"""Attacks of tenant code in a container on its daemon, zygote and checker, and on what is not its.

All of them run under policy "open": in A, in B, and in the control arm, where they have to work.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tenant_attacks
from containers import ARMS, BARE, NEEDS_ROOT, ONLY_UIDS, bound

pytestmark = [
    pytest.mark.usefixtures("docker_engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS_ROOT),
]

PROGRAM = Path(tenant_attacks.__file__).read_text()
REFUSALS = {"EPERM", "EACCES", "ESRCH", "ENOSYS"}
"""ESRCH: what a signal scope says of another domain's thread; it cannot even be named."""


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, dict[str, str]]]:
    """What became of every attack, by arm."""
    found = {}
    for arm in (*ARMS, ONLY_UIDS, BARE):
        with bound(arm) as container:
            seen = container.processes()
            targets = {part: seen[part].inside for part in ("daemon", "zygote", "checker")}
            run = f"import json\nprint(json.dumps(everything(**{targets})))"
            found[arm] = container.execute(f"{PROGRAM}\n{run}").value
            assert container.execute("print(1)").value == 1
    yield found


def _on_processes() -> Iterator[str]:
    for target in ("daemon", "zygote", "checker"):
        for name in tenant_attacks.ON_A_PROCESS:
            # The checker is hardened at every level, so these are closed in the control arm, too.
            if target != "checker" or name not in tenant_attacks.UNDUMPABLE:
                yield f"{name} > {target}"


@pytest.mark.parametrize("attack", [*tenant_attacks.ON_THE_SANDBOX, *_on_processes()])
def test_an_attack_that_works_without_the_controls_is_refused_with_them(
    attack: str, outcomes: dict[str, dict[str, str]]
) -> None:
    assert outcomes[BARE][attack] == "worked"
    for arm in ARMS:
        assert outcomes[arm][attack] in REFUSALS, arm


OPEN_TO_OTHER_USERS = ("read its command line", "F_SETOWN")
"""The first is told of every process; the second is judged when the signal is sent."""


@pytest.mark.parametrize(
    "attack",
    [
        "connect to the daemon",
        "list the daemon's folder",
        "displace the daemon's socket",
        *(f"{n} > daemon" for n in tenant_attacks.ON_A_PROCESS if n not in OPEN_TO_OTHER_USERS),
    ],
)
def test_two_uids_alone_keep_the_worker_off_the_daemon(
    attack: str, outcomes: dict[str, dict[str, str]]
) -> None:
    """Where a kernel has no Landlock and no filter of ours, as gVisor's; the filter is off here."""
    assert outcomes[BARE][attack] == "worked"
    assert outcomes[ONLY_UIDS][attack] in REFUSALS
    assert outcomes[ONLY_UIDS]["kill > zygote"] == "worked"  # nothing else stands in the way


PREPARE = "import os, signal\nx = 41"
KILL_ALL = "os.kill(-1, signal.SIGKILL)"


@pytest.mark.parametrize("arm", ARMS)
def test_killing_everything_reaches_neither_recovery_point_nor_zygote(arm: str) -> None:
    with bound(arm) as container:
        container.execute(PREPARE)
        container.execute("x += 1")
        before = {part: one.pid for part, one in container.processes().items()}
        tried = container.execute(KILL_ALL)
        assert (tried.outcome, tried.state) == ("raised", "kept")
        assert "PermissionError" in tried.error
        container.execute("pass")
        after = {part: one.pid for part, one in container.processes().items()}
        assert {part: after[part] for part in ("zygote", "checker", "worker", "spawner")} == {
            part: before[part] for part in ("zygote", "checker", "worker", "spawner")
        }
        crashed = container.execute("os.kill(os.getpid(), signal.SIGKILL)")
        assert (crashed.outcome, crashed.state) == ("killed", "restored")
        assert container.execute("print(x)").value == 42


def test_without_the_controls_killing_everything_loses_the_session() -> None:
    with bound(BARE) as container:
        container.execute(PREPARE)
        container.execute("x += 1")
        assert container.execute(f"{KILL_ALL}\nos._exit(1)").state == "lost"
