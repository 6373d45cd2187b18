"""A container that is not as promised starts nothing; one that is takes one launch, once."""

import json
import os
import subprocess
from dataclasses import dataclass, replace

import grpc
import pytest
from containers import (
    ARMS,
    IMAGE,
    NEEDS_ROOT,
    Uids,
    bound,
    choose_uids,
    command,
    made,
    read_line,
    run_flags,
)

from grotto_proto.v1 import runtime_pb2

pytestmark = [
    pytest.mark.usefixtures("docker_engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS_ROOT),
]


@dataclass(frozen=True)
class Wrong:
    """One thing that is not as promised, and a part of the sentence about it."""

    sentence: str
    arm: str = "A"
    flags: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    uids: Uids | None = None
    told: int = 0
    """What is added to the daemon's uid on the command line."""


WRONG = {
    "a capability too many": Wrong("capabilities", flags=("--cap-add", "NET_RAW")),
    "a capability too few": Wrong("capabilities", without=("--cap-add", "KILL")),
    "no capability to change uids": Wrong("capabilities", without=("--cap-add", "SETUID")),
    "root in B": Wrong("runs as uid 0", "B", ("--user", "0:0")),
    "another uid in B": Wrong("runs as uid 4711", "B", ("--user", "4711:4711")),
    "no root in A": Wrong("runs as uid 4711", flags=("--user", "4711:4711")),
    "a group too many": Wrong("supplementary groups", flags=("--group-add", "4711")),
    "new privileges": Wrong(
        "no-new-privileges", without=("--security-opt", "no-new-privileges")
    ),
    "a network": Wrong("network", without=("--network", "none")),
    "the host's processes": Wrong("first process", flags=("--pid", "host")),
    "a uid of the system": Wrong("may belong to the system", uids=Uids(10, 11)),
    "one uid for both": Wrong("the same uid", uids=Uids(2_090_000_000, 2_090_000_000)),
    "somebody else's folder": Wrong("/run/grotto does not belong", told=2),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_container_started_wrongly_says_so_and_ends(name: str) -> None:
    wrong = WRONG[name]
    uids = wrong.uids or choose_uids(wrong.arm)
    words = " ".join(run_flags(wrong.arm, uids)).replace(" ".join(wrong.without), "", 1).split()
    asked = command(wrong.arm, replace(uids, daemon=uids.daemon + wrong.told))
    done = subprocess.run(
        ["docker", "run", "--rm", *words, *wrong.flags, IMAGE, *asked],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert wrong.sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arm", ARMS)
def test_the_launch_socket_is_there_for_one_connection(arm: str) -> None:
    with made(arm) as container:
        launch = container.launch()
        assert {path.name for path in container.folder.iterdir()} == {"r.sock"}
        assert launch.recv(1) == b""  # without a lease, the daemon lets go
        launch.close()


@pytest.mark.parametrize("arm", ARMS)
def test_the_sockets_belong_to_the_group_of_the_control_plane(arm: str) -> None:
    with made(arm) as container:
        container.launch().close()
        found = (container.folder / "r.sock").stat()
        assert (found.st_uid, found.st_gid) == (container.uids.daemon, os.getegid())
        assert found.st_mode & 0o7777 == 0o660


@pytest.mark.parametrize("arm", ARMS)
def test_the_end_of_the_lease_ends_the_container(arm: str) -> None:
    with made(arm) as container:
        launch = container.launch(lease=True)
        container.bind()
        assert container.execute("print(1)").value == 1
        launch.close()
        assert container.exit_status() == 0


def test_shutdown_ends_the_container() -> None:
    with bound("A") as container:
        container.stub.Shutdown(runtime_pb2.ShutdownRequest(), metadata=container.metadata)
        assert container.exit_status() == 0


def test_the_daemon_answers_nobody_without_the_token() -> None:
    with bound("A") as container:
        container.metadata = (("grotto-token", "x" * 64),)
        with pytest.raises(grpc.RpcError) as refused:
            container.isolation()
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_launch_that_asks_for_another_level_is_refused_in_words() -> None:
    with made("A") as container:
        launch = container.connect()
        launch.sendall(container.config(isolation="full"))
        said = read_line(launch)
        launch.close()
        assert "cannot give isolation 'full'" in said["error"]
        assert said["hint"]
        assert container.exit_status() == 1


@pytest.mark.parametrize("line", [b"not json\n", json.dumps({"token": "t"}).encode() + b"\n", b""])
def test_a_launch_that_is_no_configuration_ends_the_container(line: bytes) -> None:
    with made("A") as container:
        launch = container.connect()
        launch.sendall(line)
        launch.close()
        assert container.exit_status() == 1
        assert "launch configuration" in container.log()
