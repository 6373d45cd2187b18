"""A sandbox that owns its socket directory leads the control plane nowhere and fills no disk.

The attacker is the daemon itself: a process of the daemon's own uid in its container, or an
image that is another program altogether.
"""

import asyncio
import base64
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from docker_engine import DockerEngine
from docker_worlds import BARE, docker_backend, spec
from fakes.control import short_folder

from grotto_control.backends.docker.backend import DockerBackend, DockerConfig
from grotto_control.core.backend import SandboxSpec
from grotto_control.core.clock import new_sandbox_id
from grotto_control.metrics import PrometheusMetrics
from grotto_control.model.errors import BackendFailure, SandboxUnreachable
from grotto_control.model.records import SandboxHandle
from grotto_control.runtime_client.client import RuntimeClient
from grotto_control.runtime_client.connection import Connection

PYTHON = "/opt/grotto/bin/python"
DEADLINE_S = 30.0


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with short_folder() as made:
        yield made


@pytest.fixture
async def backend(docker_engine: DockerEngine, folder: Path) -> AsyncIterator[DockerBackend]:
    async with docker_backend(folder) as made:
        yield made


def as_daemon(engine: DockerEngine, handle: SandboxHandle, program: str, *options: str) -> str:
    """Runs a program in the sandbox with the daemon's uid and in its socket directory."""
    who = ["--user", f"{handle.uid}:{handle.uid}", "--workdir", "/run/grotto"]
    words = ["exec", *who, *options, handle.container_id or "", PYTHON, "-I", "-c", program]
    return engine.docker(*words)


async def answers(handle: SandboxHandle, asked: SandboxSpec) -> bool:
    client = RuntimeClient(handle, asked.token, "docker", PrometheusMetrics())
    try:
        return bool((await client.handshake(DEADLINE_S)).codecs)
    finally:
        await client.close()


def naive_connect(folder: Path | str, name: str) -> None:
    """By path, as one would without knowing better."""
    directory = os.open(folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket of somebody else's on this host."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        one.setblocking(False)
        yield one
        path.unlink()


def has_been_called(one: socket.socket) -> bool:
    try:
        one.accept()[0].close()
    except BlockingIOError:
        return False
    return True


# ---- r.sock of a running sandbox ----


async def test_a_link_to_another_sessions_socket_is_not_followed(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    victim, attacker = await asyncio.gather(backend.start(spec()), backend.start(spec()))
    link = f"import os; os.unlink('r.sock'); os.symlink({victim.run_dir + '/r.sock'!r}, 'r.sock')"
    as_daemon(docker_engine, attacker, link)
    naive_connect(attacker.run_dir, "r.sock")  # control arm: it arrives at the victim
    with pytest.raises(SandboxUnreachable, match="not a socket"):
        Connection(attacker)
    await Connection(victim).close()


@pytest.mark.parametrize(
    "replacement",
    [
        "open('r.sock', 'w')",
        "os.mkfifo('r.sock')",
        "os.mkdir('r.sock')",
        "os.symlink('.', 'r.sock')",
    ],
)
async def test_what_is_no_socket_is_not_opened(
    backend: DockerBackend, docker_engine: DockerEngine, replacement: str
) -> None:
    """Without the check a FIFO would keep whoever opens it waiting for ever."""
    handle = await backend.start(spec())
    as_daemon(docker_engine, handle, f"import os; os.unlink('r.sock'); {replacement}")
    with pytest.raises(SandboxUnreachable):
        Connection(handle)


async def test_a_socket_that_is_gone_or_nobody_listens_on_is_unreachable(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    asked = spec()
    handle = await backend.start(asked)
    assert await answers(handle, asked)
    as_daemon(docker_engine, handle, "import os; os.unlink('r.sock')")
    with pytest.raises(SandboxUnreachable):
        Connection(handle)
    as_daemon(docker_engine, handle, "import socket; socket.socket(1).bind('r.sock')")
    with pytest.raises(SandboxUnreachable):
        Connection(handle)


LISTEN = """
import os, socket, sys
one = socket.socket(socket.AF_UNIX)
one.bind("new.sock")
os.chmod("new.sock", 0o660)
one.listen()
os.rename("new.sock", "r.sock")
while True:
    one.accept()
"""


async def found_listening(handle: SandboxHandle) -> None:
    """Returns when a connection by path is taken."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return naive_connect(handle.run_dir, "r.sock")
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(0.01)


async def test_another_process_of_the_sandbox_is_not_taken_for_its_daemon(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    handle = await backend.start(spec())
    await Connection(handle).close()
    as_daemon(docker_engine, handle, "import os; os.unlink('r.sock')")
    as_daemon(docker_engine, handle, LISTEN, "--detach")
    await found_listening(handle)  # control arm
    with pytest.raises(SandboxUnreachable, match="another process"):
        Connection(handle)


@pytest.mark.parametrize("same_uid", [False, True])
async def test_a_process_of_another_container_is_not_taken_for_the_daemon(
    backend: DockerBackend, docker_engine: DockerEngine, same_uid: bool
) -> None:
    """The volume is another container's too, which only the engine's owner can arrange."""
    handle = await backend.start(spec())
    as_daemon(docker_engine, handle, "import os; os.unlink('r.sock')")
    volume = Path(handle.run_dir).parent.name
    uid = handle.uid if same_uid else 0
    name = f"grotto-test-{new_sandbox_id()}"
    run = ["run", "--detach", "--name", name, "--user", f"{uid}:{uid}", "--workdir", "/run/grotto"]
    mount = [
        "--mount",
        f"type=volume,src={volume},dst=/run/grotto,volume-nocopy",
        "--network",
        "none",
    ]
    program = ["--entrypoint", PYTHON, BARE["bare"], "-I", "-c", LISTEN]
    docker_engine.docker(*run, *mount, *program)
    try:
        await found_listening(handle)
        with pytest.raises(SandboxUnreachable, match="another process"):
            Connection(handle)
    finally:
        docker_engine.docker("rm", "--force", name)


async def test_the_check_is_of_pid_and_uid(backend: DockerBackend) -> None:
    """Each alone, on a true daemon's socket."""
    handle = await backend.start(spec())
    await Connection(handle).close()
    for changed in (replace(handle, uid=(handle.uid or 0) + 1), replace(handle, pid=os.getpid())):
        with pytest.raises(SandboxUnreachable, match="another process"):
            Connection(changed)


# ---- what lies in it ----

FILL = """
import json, os
def filled(make):
    count = 0
    try:
        while count < 1_000_000:
            make(count)
            count += 1
    except OSError as error:
        return [count, error.errno]
file = open("much", "wb", buffering=0)
written = filled(lambda _: file.write(bytes(1024)))
os.unlink("much"); file.close()
print(json.dumps([written, filled(lambda number: open(str(number), "w").close())]))
"""
ENOSPC = 28


async def test_a_filled_directory_is_small_and_costs_its_own_session_only(
    backend: DockerBackend, docker_engine: DockerEngine, folder: Path
) -> None:
    asked, other = spec(), spec()
    handle, neighbour = await asyncio.gather(backend.start(asked), backend.start(other))
    before = os.statvfs(Path(handle.run_dir).parent)
    written, files = json.loads(as_daemon(docker_engine, handle, FILL))
    assert written == [64, ENOSPC]
    assert files[0] < 8 and files[1] == ENOSPC
    after = os.statvfs(Path(handle.run_dir).parent)
    assert after.f_files == before.f_files and after.f_fsid != os.statvfs(handle.run_dir).f_fsid
    assert await answers(neighbour, other)
    assert await answers(handle, asked)  # its socket was made before
    await backend.destroy(handle)
    assert not Path(handle.run_dir).exists()


def test_without_a_file_system_of_its_own_the_host_is_filled(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    """The control arm: a folder of the host in the sandbox."""
    program = "open('/run/grotto/much', 'wb').write(bytes(1 << 20))\n" + (
        "for n in range(100): open(f'/run/grotto/{n}', 'w').close()\n"
        "import os, shutil; shutil.copy('/bin/true', '/run/grotto/true')\n"
        "os.chmod('/run/grotto/true', 0o4755)"
    )
    run = [
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "0:0",
        "--volume",
        f"{tmp_path}:/run/grotto",
    ]
    docker_engine.docker(*run, "--entrypoint", PYTHON, BARE["bare"], "-I", "-c", program)
    assert (tmp_path / "much").stat().st_size == 1 << 20
    assert len(list(tmp_path.iterdir())) > 100
    assert (tmp_path / "true").stat().st_mode & 0o4000
    assert not os.statvfs(tmp_path).f_flag & os.ST_NOSUID


async def test_nothing_in_the_directory_runs_or_raises_anybody_on_the_host(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    handle = await backend.start(spec())
    program = (
        "import os; open('x', 'w').write('#!/bin/sh\\ntrue\\n'); os.chmod('x', 0o6755);"
        " print(oct(os.stat('x').st_mode))"
    )
    assert as_daemon(docker_engine, handle, program) == "0o104755"  # not in the group: no setgid
    flags = os.statvfs(handle.run_dir).f_flag
    assert flags & os.ST_NOSUID and flags & os.ST_NODEV and flags & 8  # 8: ST_NOEXEC
    with pytest.raises(PermissionError):
        subprocess.run([f"{handle.run_dir}/x"])


async def test_the_launch_socket_is_gone_once_it_was_used(backend: DockerBackend) -> None:
    handle = await backend.start(spec())
    assert os.listdir(handle.run_dir) == ["r.sock"]


# ---- launch.sock of a program that is not ours ----

HOSTILE = """#!/usr/bin/python3 -I
import json, os, socket, sys, time
uid = int(sys.argv[sys.argv.index("--daemon-uid") + 1])
os.chdir("/run/grotto")
def become(uid):
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
def listening():
    one = socket.socket(socket.AF_UNIX); one.bind("launch.sock"); one.listen(); return one
def accepted():
    become(uid)
    one, _ = listening().accept()
    one.makefile().readline()
    return one
def flood(data):
    one = accepted()
    try:
        while True: one.sendall(data)
    except OSError: pass
{behaviour}
time.sleep(600)
"""
WORKS = 'accepted().sendall(b\'{"error": "control arm", "hint": ""}\\n\')'
LAUNCHES = {
    # what it does: (its program, what the failure says)
    "control arm": (WORKS, "control arm"),
    "nothing": ("become(uid)", "not ready in time"),
    "a link": ("become(uid); os.symlink('{victim}', 'launch.sock')", "not ready in time"),
    "a file": ("become(uid); open('launch.sock', 'w')", "not ready in time"),
    "a FIFO": ("become(uid); os.mkfifo('launch.sock')", "not ready in time"),
    "a folder": ("become(uid); os.mkdir('launch.sock')", "not ready in time"),
    "as root": ("kept = listening()", "not ready in time"),
    "by a child": ("become(uid); os.fork() or listening().accept()", "not ready in time"),
    "silence": ("kept = accepted()", "not ready in time"),
    "its end": ("accepted().close()", "closed its socket"),
    "a death": ("accepted(); os._exit(3)", "before it was ready"),
    "endless bytes": ("flood(bytes(65536))", "closed its socket"),
    "a huge line": ("flood(b'\"' + bytes(1 << 20) + b'\"\\n')", "closed its socket"),
    "deep JSON": ("flood(b'[' * 10000 + b'\\n')", "closed its socket"),
    "no object": ("flood(b'17\\n')", "closed its socket"),
    "ready by a word": ('flood(b\'{"ready": "yes"}\\n\')', "closed its socket"),
    "escapes": (
        'flood(json.dumps({"error": "\\x1b[2J\\u202e" + "x" * 9000}).encode() + b"\\n")',
        r"^\\x1b\[2J\\u202ex{10,500}",
    ),
}


@pytest.fixture
def hostile_images(docker_engine: DockerEngine, folder: Path) -> Iterator[dict[str, str]]:
    """Images by what their program does; a link leads to `victim` in the test's folder."""
    made = {}
    for number, (what, (behaviour, _)) in enumerate(LAUNCHES.items()):
        program = HOSTILE.replace("{behaviour}", behaviour.replace("{victim}", f"{folder}/victim"))
        encoded = base64.b64encode(program.encode()).decode()
        reference = f"grotto-test-hostile:launch-{number}"
        lines = f"FROM {BARE['bare']}\nUSER 0\nRUN rm {PYTHON} && echo {encoded} | base64 -d"
        done = subprocess.run(
            ["docker", "build", "--force-rm", "--network", "none", "--tag", reference, "-"],
            input=f"{lines} > {PYTHON} && chmod 755 {PYTHON}\n",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        made[what] = reference
    yield made
    docker_engine.docker("rmi", "--force", *made.values())


async def test_a_program_that_is_no_daemon_fails_its_own_start_in_every_way(
    hostile_images: dict[str, str], folder: Path
) -> None:
    config = DockerConfig(start_timeout_s=10.0)
    images = {**BARE, **hostile_images}
    with listening(folder / "victim") as victim:
        async with docker_backend(folder, images, config=config) as backend:
            starts = (backend.start(spec(what)) for what in LAUNCHES)
            failures = await asyncio.gather(*starts, return_exceptions=True)
            assert await backend.list() == []
            asked = spec()
            assert await answers(await backend.start(asked), asked)
        assert not has_been_called(victim)
        naive_connect(folder, "victim")
        assert has_been_called(victim)  # control arm
    found = dict(zip(LAUNCHES, failures, strict=True))
    for what, (_, words) in LAUNCHES.items():
        with pytest.raises(BackendFailure, match=words):
            raise found[what]  # type: ignore[misc]
