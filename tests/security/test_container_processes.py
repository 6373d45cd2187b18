"""What the processes of a container are: uids, capabilities and filters, seen from the host."""

import os
from collections.abc import Iterator

import pytest
from containers import ARMS, BARE, NEEDS_ROOT, Container, bound

pytestmark = [
    pytest.mark.usefixtures("docker_engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS_ROOT),
]

KILL_ALONE = 1 << 5
INNER = ("spawner", "zygote", "checker", "worker", "frozen")
FILTERED = "2"


@pytest.fixture(scope="module", params=[*ARMS, BARE])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    """One container of each arm for all tests here, with a recovery point taken."""
    with bound(request.param) as made:
        made.execute("x = 1")
        made.execute("x = 2")  # it waits for the recovery point of the one before
        yield made


def hardened(container: Container) -> bool:
    return container.arm != BARE


def test_daemon_and_worker_are_two_users_in_a_and_one_elsewhere(container: Container) -> None:
    seen, uids = container.processes(), container.uids
    assert {"daemon", *INNER} <= set(seen)
    assert seen["daemon"].ids == {uids.daemon}
    for part in INNER:
        assert seen[part].ids == {uids.worker}
    assert (uids.daemon != uids.worker) == (container.arm == "A")


def test_only_the_daemon_has_a_group_besides_its_own_and_only_the_workers(
    container: Container,
) -> None:
    seen = container.processes()
    assert seen["daemon"].groups == {container.uids.worker}
    for part in INNER:
        assert seen[part].groups <= {container.uids.worker}


def test_the_daemon_of_a_keeps_the_capability_to_kill_and_nobody_else_has_any(
    container: Container,
) -> None:
    seen = container.processes()
    for part, one in seen.items():
        kept = KILL_ALONE if part == "daemon" and container.arm == "A" else 0
        assert one.capabilities("CapPrm") == one.capabilities("CapEff") == kept, part
        assert one.capabilities("CapInh") == one.capabilities("CapAmb") == 0, part


def test_everything_is_filtered_and_can_gain_nothing(container: Container) -> None:
    seen = container.processes()
    for part in ("daemon", *(INNER if hardened(container) else ("worker", "zygote"))):
        status = seen[part].status
        assert (status["NoNewPrivs"], status["Seccomp"]) == (
            ("1", FILTERED) if hardened(container) else ("0", "0")
        ), part


def test_none_of_them_can_be_dumped_or_traced(container: Container) -> None:
    """The kernel gives the files of an undumpable process to root."""
    for part in ("daemon", "zygote", "worker", "frozen"):
        owner = os.stat(f"/proc/{container.processes()[part].pid}/mem").st_uid
        assert (owner == 0) == hardened(container), part


def test_the_kernel_ends_inner_processes_before_the_daemon(container: Container) -> None:
    scores = {}
    for part, one in container.processes().items():
        with open(f"/proc/{one.pid}/oom_score_adj") as file:
            scores[part] = int(file.read())
    assert all(scores[part] > scores["daemon"] for part in INNER)


def test_neither_command_line_nor_environment_holds_the_token(container: Container) -> None:
    needle = container.token.encode()
    for one in container.processes().values():
        for name in ("cmdline", "environ"):
            with open(f"/proc/{one.pid}/{name}", "rb") as file:
                assert needle not in file.read()


def test_the_report_names_the_level_and_what_divides_daemon_and_worker(
    container: Container,
) -> None:
    report = container.isolation()
    if not hardened(container):
        assert report.level == "none"
        return
    assert (report.backend, report.level) == ("docker", "container")
    assert ("separate_uids" in report.layers) == (container.arm == "A")
    assert ("separate_uids" in report.missing) == (container.arm == "B")
    walls = {"pid_namespace", "network_namespace", "read_only_root", "disk_quota"}
    given_up = {"no_capabilities", "no_new_privileges", "undumpable", "seccomp"}
    always = walls | given_up | {"rlimits", "pid_limit"}
    assert always <= set(report.layers)
    assert len(set(report.layers)) == len(report.layers)
