"""The leak check finds what it is there to find, and only that."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import engine_leaks
import grpc.aio
import pytest
from docker_engine import DockerEngine
from engine_leaks import LABEL
from leaks import Snapshot, leaks

SOON_S = 0.2


@contextmanager
def child_process() -> Iterator[str]:
    """A child that nobody waits for."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield f"process {child.pid}"
    child.communicate()


ORPHAN = "import os, sys; os.read(int(sys.argv[1]), 1)"
PARENT = """
import subprocess, sys
command = [sys.executable, "-c", sys.argv[1], sys.argv[2], "grotto_runtime"]
print(subprocess.Popen(command, pass_fds=[int(sys.argv[2])]).pid)
"""


@contextmanager
def orphan_of_ours() -> Iterator[str]:
    """A process of our packages whose parent is gone, as after the kill of a server."""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", PARENT, ORPHAN, str(reader)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[reader], text=True) as parent:
        assert parent.stdout
        pid = parent.stdout.readline().strip()
    os.close(reader)
    yield f"process {pid}"
    os.close(writer)


@contextmanager
def socket_pair() -> Iterator[str]:
    """Both ends of a socket pair."""
    one, other = socket.socketpair()
    with one, other:
        yield f"descriptor {one.fileno()}: socket:"


@contextmanager
def memory_file() -> Iterator[str]:
    """A memfd, as values travel in."""
    descriptor = os.memfd_create("value")
    yield f"descriptor {descriptor}: /memfd:value"
    os.close(descriptor)


@contextmanager
def folder() -> Iterator[str]:
    """A sandbox's folder below the temporary one."""
    with tempfile.TemporaryDirectory(prefix="grotto-") as path:
        yield path


@contextmanager
def mount() -> Iterator[str]:
    """A file system that was not unmounted."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    with tempfile.TemporaryDirectory() as path:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
        yield f"mount {path}"
        subprocess.run(["umount", path], check=True)


PLANTS = [child_process, orphan_of_ours, socket_pair, memory_file, folder, mount]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_leak_is_named_and_gone_once_it_is_cleaned_up(
    plant: Callable[[], AbstractContextManager[str]],
) -> None:
    before = Snapshot.take()
    with plant() as name:
        found = leaks(before, deadline_s=SOON_S)
        assert any(name in line for line in found), found
    assert leaks(before) == []


@contextmanager
def container(engine: DockerEngine) -> Iterator[str]:
    """A sandbox that was never started."""
    found = engine.docker("create", "--label", f"{LABEL}={SERVER_ID}", "grotto-sandbox:bare")
    yield f"container {found} of server {SERVER_ID}"
    engine.docker("rm", found)


@contextmanager
def volume(engine: DockerEngine) -> Iterator[str]:
    """The socket directory of a container that is gone."""
    name = engine.docker("volume", "create", "--label", f"{LABEL}={SERVER_ID}")
    yield f"volume {name} of server {SERVER_ID}"
    engine.docker("volume", "rm", name)


@contextmanager
def network(engine: DockerEngine) -> Iterator[str]:
    """Sandboxes have none."""
    name = f"grotto-planted-{SERVER_ID}"
    made = ("network", "create", "--internal", "--label", f"{LABEL}={SERVER_ID}", name)
    engine.docker(*made)
    yield f"network {name} of server {SERVER_ID}"
    engine.docker("network", "rm", name)


@contextmanager
def cgroup(engine: DockerEngine) -> Iterator[str]:
    """Of a container that is gone."""
    parents = [path for path in Path("/sys/fs/cgroup").glob("*/docker") if path.is_dir()]
    parent = parents[0] if parents else Path("/sys/fs/cgroup/docker")
    if os.geteuid() != 0 or not parent.is_dir():
        pytest.skip("the engine's cgroups are not ours to make")
    stray = parent / secrets.token_hex(32)
    stray.mkdir()
    yield f"cgroup {stray}"
    stray.rmdir()


@contextmanager
def volume_mount(engine: DockerEngine) -> Iterator[str]:
    """Of a volume that is gone."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volumes" / secrets.token_hex(32) / "_data"
        place.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        yield f"mount {place}"
        subprocess.run(["umount", place], check=True)


SERVER_ID = secrets.token_hex(8)
ON_ENGINE = [container, volume, network, cgroup, volume_mount]


@pytest.mark.parametrize("plant", ON_ENGINE, ids=lambda plant: plant.__name__)
def test_what_is_left_on_the_engine_is_named_and_gone_once_it_is_cleaned_up(
    plant: Callable[[DockerEngine], AbstractContextManager[str]],
    docker_engine: DockerEngine,
    tmp_path: Path,
) -> None:
    (tmp_path / "identity.json").write_text(json.dumps({"server_id": SERVER_ID}))
    own = engine_leaks.servers((tmp_path,))
    assert own == {SERVER_ID}
    with plant(docker_engine) as name:
        assert name in engine_leaks.left_by(own)
    assert name not in engine_leaks.left_by(own)


def test_what_another_runs_server_has_on_the_engine_is_not_ours(
    docker_engine: DockerEngine,
) -> None:
    with container(docker_engine) as name:
        assert name not in engine_leaks.left_by(frozenset({"another"}))


STUB_SERVER = """
import subprocess, sys
command = [sys.executable, "-c", "input()", "grotto_runtime"]
children = []
for _ in sys.stdin:
    children.append(subprocess.Popen(command, stdin=subprocess.PIPE))
    print("started", flush=True)
for child in children:
    child.communicate()
"""


def test_a_server_of_wider_scope_may_fill_its_pool_and_no_more() -> None:
    command = [sys.executable, "-c", STUB_SERVER, "grotto_control", "--pool", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin and server.stdout
        before = Snapshot.take()
        found = []
        for _ in range(2):
            server.stdin.write("\n")
            server.stdin.flush()
            server.stdout.readline()
            found.append(leaks(before, deadline_s=SOON_S))
        server.stdin.close()
    assert found == [[], [f"server {server.pid} has 2 sandboxes, and 1 are its own"]]


def test_what_was_there_before_is_not_held_against_a_test() -> None:
    with socket_pair(), child_process():
        assert leaks(Snapshot.take(), deadline_s=SOON_S) == []


async def test_a_closed_grpc_channel_leaves_nothing_and_an_open_one_is_found() -> None:
    server = grpc.aio.server()
    with tempfile.TemporaryDirectory() as folder:
        server.add_insecure_port(f"unix:{folder}/s")
        await server.start()
        before = Snapshot.take()
        async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
            await channel.channel_ready()
            found = leaks(before, deadline_s=SOON_S)
        await server.stop(None)
    assert any("socket:" in line for line in found)


def test_the_fixture_fails_the_leaking_test_and_no_other(
    pytester: pytest.Pytester, checkout_root: Path
) -> None:
    pytester.makeini("[pytest]\npythonpath = tests")
    tests = pytester.mkdir("tests")
    checker = (checkout_root / "tests" / "leaks.py").read_text()
    (tests / "leaks.py").write_text(checker.replace("_S = 10.0", f"_S = {SOON_S}"))
    for name in ("conftest", "docker_engine", "engine_leaks", "second_engine"):
        shutil.copy(checkout_root / "tests" / f"{name}.py", tests)
    (tests / "test_planted.py").write_text(
        "import os\ndef test_leaks(): os.pipe()\ndef test_is_clean(): os.close(os.dup(0))\n"
    )
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "tests")
    outcome.assert_outcomes(passed=2, errors=1)
    outcome.stdout.fnmatch_lines(
        ["*left behind by this test:*", "*pipe:*", "ERROR tests/test_planted.py::test_leaks*"]
    )
