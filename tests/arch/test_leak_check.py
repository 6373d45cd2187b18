"""The leak check finds what it is there to find, and only that."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc.aio
import pytest
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


PLANTS = [child_process, orphan_of_ours, socket_pair, memory_file, folder]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_leak_is_named_and_gone_once_it_is_cleaned_up(
    plant: Callable[[], AbstractContextManager[str]],
) -> None:
    before = Snapshot.take()
    with plant() as name:
        found = leaks(before, deadline_s=SOON_S)
        assert any(name in line for line in found), found
    assert leaks(before) == []


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
    shutil.copy(checkout_root / "tests" / "conftest.py", tests)
    (tests / "test_planted.py").write_text(
        "import os\ndef test_leaks(): os.pipe()\ndef test_is_clean(): os.close(os.dup(0))\n"
    )
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "tests")
    outcome.assert_outcomes(passed=2, errors=1)
    outcome.stdout.fnmatch_lines(
        ["*left behind by this test:*", "*pipe:*", "ERROR tests/test_planted.py::test_leaks*"]
    )
