"""What must still work when daemon and worker are divided: recovery, limits, values, files."""

import os
from collections.abc import Iterator

import grpc
import pytest
from containers import ARMS, MIB, NEEDS_ROOT, Container, bound

from grotto_proto.v1 import runtime_pb2, values_pb2

pytestmark = [
    pytest.mark.usefixtures("docker_engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS_ROOT),
]


@pytest.fixture(scope="module", params=ARMS)
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    with bound(request.param) as made:
        yield made


# ---- recovery and limits: the daemon signals, watches and counts processes of another user ----


@pytest.mark.parametrize(
    "crash",
    ["import os; os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)"],
)
def test_a_crash_costs_one_execution(container: Container, crash: str) -> None:
    container.execute("kept = [41]")
    crashed = container.execute(f"kept.append(1)\n{crash}")
    assert (crashed.outcome, crashed.state) == ("killed", "restored")
    assert container.execute("print(kept)").value == [41]


def test_a_thawed_copy_can_be_frozen_and_thawed_again(container: Container) -> None:
    container.execute("count = 0")
    for expected in (1, 2, 3):
        container.execute("count += 1")
        assert container.execute("import os; os.kill(os.getpid(), 9)").state == "restored"
        assert container.execute("print(count)").value == expected


def test_a_loop_is_interrupted_and_its_names_are_kept(container: Container) -> None:
    container.execute("at = 7")
    looped = container.execute("while True: pass", wall_s=0.3)
    assert (looped.outcome, looped.state) == ("timed_out", "kept")
    assert container.execute("print(at)").value == 7


def test_processor_time_is_counted(container: Container) -> None:
    looped = container.execute("while True: pass", cpu_s=0.3)
    assert looped.outcome == "timed_out"
    assert "CPU" in looped.note


def test_code_that_ignores_interrupts_is_killed(container: Container) -> None:
    container.execute("at = 8")
    source = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    looped = container.execute(source, wall_s=0.3)
    assert (looped.outcome, looped.state) == ("timed_out", "restored")
    assert container.execute("print(at)").value == 8


def test_memory_of_all_its_processes_is_added_up(container: Container) -> None:
    """Each stays below the limit of one process; the daemon reads what other users' hold."""
    source = (
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        held = bytearray(100 * 2**20)\n"
        "        for at in range(0, len(held), 4096): held[at] = 1\n"
        "        time.sleep(60)\n"
        "time.sleep(60)"
    )
    ended = container.execute(source)
    assert (ended.outcome, ended.state) == ("killed", "restored")
    assert "memory" in ended.note
    assert container.execute("print(1)").value == 1


@pytest.mark.parametrize("arm", ARMS)
def test_a_fork_bomb_is_ended_and_the_session_goes_on(arm: str) -> None:
    # Shared pages count for each process, so memory must not be what ends them.
    with bound(arm, memory_bytes=16 * 1024 * MIB) as container:
        ended = container.execute(
            "import os, time\n"
            "while True:\n"
            "    try:\n"
            "        if os.fork() == 0: time.sleep(60); os._exit(0)\n"
            "    except OSError: time.sleep(0.01)"
        )
        assert (ended.outcome, ended.state) == ("killed", "restored")
        assert "processes" in ended.note
        assert container.execute("print(1)").value == 1


def test_the_kernel_bounds_the_processes_of_this_sandbox_alone(container: Container) -> None:
    limits = "import resource, json; print(json.dumps(resource.getrlimit(resource.RLIMIT_NPROC)))"
    soft, hard = container.execute(limits).value
    assert soft == hard == 32 + 32


# ---- values: sealed memory of the daemon, mapped by the worker ----


def test_a_value_goes_in_and_comes_out(container: Container) -> None:
    import numpy

    from grotto_wire import values

    sent = numpy.arange(500_000, dtype="int64")
    payload = b"".join(bytes(segment) for segment in values.encode({"frame": sent}))
    parts = [runtime_pb2.RuntimePutRequest(
        spec=values_pb2.PutSpec(names=["frame"], size_bytes=len(payload))
    )]  # fmt: skip
    for at in range(0, len(payload), MIB):
        parts.append(runtime_pb2.RuntimePutRequest(chunk=payload[at : at + MIB]))
    container.stub.PutValue(iter(parts), metadata=container.metadata, timeout=30)
    assert container.execute("frame += 1; print(int(frame.sum()))").value == sent.sum() + len(sent)
    asked = values_pb2.GetSpec(names=["frame"])
    chunks = container.stub.GetValue(asked, metadata=container.metadata, timeout=30)
    (came,) = values.decode(b"".join(chunk.chunk for chunk in chunks))
    assert (came == sent + 1).all()


# ---- files: daemon and worker share the workspace by the worker's group ----


def test_the_worker_reads_overwrites_and_deletes_what_was_uploaded(container: Container) -> None:
    container.upload("folder/given.txt", b"given")
    source = "print(repr(open('folder/given.txt').read()).replace(chr(39), chr(34)))"
    assert container.execute(source).value == "given"
    container.execute("with open('folder/given.txt', 'w') as file: file.write('changed')")
    assert container.download("folder/given.txt") == b"changed"
    source = "import os; os.remove('folder/given.txt'); open('folder/own', 'w').close(); print(1)"
    assert container.execute(source).value == 1
    assert container.execute("import shutil; shutil.rmtree('folder'); print(1)").value == 1


def test_the_daemon_reads_lists_and_replaces_what_the_worker_wrote(container: Container) -> None:
    container.execute(
        "import os\nos.makedirs('deep/er', exist_ok=True)\n"
        "with open('deep/er/made.txt', 'w') as file: file.write('made')"
    )
    assert container.download("deep/er/made.txt") == b"made"
    files = container.stub.ListFiles(
        values_pb2.FileSpec(path="deep"), metadata=container.metadata, timeout=30
    )
    assert [one.path for one in files.files] == ["deep/er", "deep/er/made.txt"]
    container.upload("deep/er/made.txt", b"replaced")
    assert container.execute("print(len(open('deep/er/made.txt').read()))").value == 8


def test_a_file_closed_to_the_group_is_refused_in_words_in_a(container: Container) -> None:
    container.execute(
        "import os\nwith open('own.txt', 'w') as file: file.write('own')\n"
        "os.chmod('own.txt', 0o600)"
    )
    if container.arm == "A":
        with pytest.raises(grpc.RpcError) as refused:
            container.download("own.txt")
        assert "closed to everybody but the code of the session" in refused.value.details()
        container.execute("os.chmod('own.txt', 0o660)")
    assert container.download("own.txt") == b"own"


def test_scratch_space_is_where_programs_look_for_it(container: Container) -> None:
    source = (
        "import json, os, tempfile, multiprocessing\n"
        "with tempfile.NamedTemporaryFile() as file: name = file.name\n"
        "multiprocessing.Lock()\n"
        "open('/dev/shm/x', 'w').close(); os.remove('/dev/shm/x')\n"
        "print(json.dumps(name))"
    )
    assert container.execute(source).value.startswith("/tmp/")


def test_the_user_has_a_name_and_a_home(container: Container) -> None:
    source = (
        "import getpass, json, os, pathlib\n"
        "print(json.dumps([getpass.getuser(), str(pathlib.Path.home()), os.getcwd()]))"
    )
    assert container.execute(source).value == ["sandbox", "/workspace", "/workspace"]


def test_nothing_else_can_be_written(container: Container) -> None:
    source = (
        "import json, os\nfound = {}\n"
        "for path in ('/x', '/etc/x', '/opt/grotto/x', '/run/x', '/run/grotto/x', '/dev/x'):\n"
        "    try: open(path, 'w').close(); found[path] = 'written'\n"
        "    except OSError as error: found[path] = error.errno\n"
        "print(json.dumps(found))"
    )
    assert "written" not in container.execute(source).value.values()


def test_there_are_no_internet_sockets(container: Container) -> None:
    """Their memory is the host's; the engine's filter refuses them, and so does the worker's."""
    source = (
        "import errno, json, socket\nfound = []\n"
        "for family in (socket.AF_INET, socket.AF_INET6):\n"
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "        try: socket.socket(family, kind).close(); found.append('made')\n"
        "        except OSError as error: found.append(errno.errorcode[error.errno])\n"
        "print(json.dumps(found))"
    )
    assert container.execute(source).value == ["EPERM"] * 4
