"""One sandbox in a container, started by the engine's command line with the promised flags.

Four arms: "A" (two uids, the daemon keeps KILL); "B" (one uid, no capability at all); "uids", which
is the two uids of A and nothing else, as where a kernel offers neither Landlock nor our filter;
and "bare", the control arm: level "none" inside, and nothing of the engine's that would stop a
system call. It uses nothing of the control plane.
"""

import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from engine_leaks import TEST_CONTAINER

from grotto_proto.metadata import TOKEN
from grotto_proto.v1 import execution_pb2, runtime_pb2, runtime_pb2_grpc, sessions_pb2, values_pb2

IMAGE = "grotto-sandbox:data"
NEEDS_ROOT = "the sockets of containers lie where only root reaches"
PYTHON = "/opt/grotto/bin/python"
MIB = 1024 * 1024
DEADLINE_S = 30.0
POLL_S = 0.02
ARMS = ("A", "B")
ONLY_UIDS, BARE = "uids", "bare"
_ROOT_AT_START = ("A", ONLY_UIDS)
_BARE_PROGRAM = (
    "from grotto_runtime.launch import launch; "
    "from grotto_runtime.launcher import await_launcher; "
    "launch(await_launcher('/run/grotto'))"
)
_ONLY_UIDS_PROGRAM = """
import dataclasses, sys
from grotto_proto.v1 import sessions_pb2
from grotto_runtime.enclosure import container
from grotto_runtime.launch import run
from grotto_runtime.launcher import await_launcher
entered = dataclasses.replace(container.enter(*map(int, sys.argv[1:])), level="none")
launcher = await_launcher("/run/grotto")
run(launcher.config(), entered, sessions_pb2.Isolation(level="none"), launcher)
"""
_LANDLOCK = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"]
_NO_LANDLOCK = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": _LANDLOCK, "action": "SCMP_ACT_ERRNO"}],
}


def docker(*words: str) -> str:
    """Runs one command of the engine; its output, or an AssertionError with its words."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Uids:
    """Of one container; in B and in the control arm, both are the daemon's."""

    daemon: int
    worker: int


def choose_uids(arm: str) -> Uids:
    daemon = 2_080_000_000 + 2 * secrets.randbelow(30_000_000)
    return Uids(daemon, daemon + 1 if arm in _ROOT_AT_START else daemon)


def run_flags(arm: str, uids: Uids, profile: str = "") -> list[str]:
    """The options of `docker run` that the docker backend's own request amounts to.

    `profile` is the path of another seccomp profile than the engine's own.
    """
    volume = (
        "type=volume,dst=/run/grotto,volume-driver=local,volume-opt=type=tmpfs,"
        "volume-opt=device=tmpfs,"
        '"volume-opt=o=size=64k,nr_inodes=8,nosuid,nodev,noexec,mode=2770,'
        f'uid={uids.daemon},gid={os.getegid()}"'
    )
    scratch = f"nr_inodes=4096,uid={uids.worker},gid={uids.worker},mode=2770,nosuid,nodev,exec"
    flags = [
        "--network", "none", "--read-only", "--cap-drop", "ALL",
        "--ipc", "private", "--shm-size", "16m",
        "--memory", "1g", "--memory-swap", "1g", "--pids-limit", "256",
        "--mount", volume, "--tmpfs", f"/workspace:size=64m,{scratch}",
        "--tmpfs", f"/tmp:size=64m,{scratch}", "--env", "LANG=C.UTF-8", "--entrypoint", PYTHON,
    ]  # fmt: skip
    # The worker's own filter is what is tested: the engine's is its default, or in "bare" none.
    security = "seccomp=unconfined" if arm == BARE else "no-new-privileges"
    flags += ["--security-opt", security]
    if arm in _ROOT_AT_START:
        added = [word for name in ("SETUID", "SETGID", "KILL") for word in ("--cap-add", name)]
        flags += ["--user", "0:0", *added]
        return [*flags, "--security-opt", f"seccomp={profile}"] if profile else flags
    return [*flags, "--user", f"{uids.daemon}:{uids.daemon}"]


def command(arm: str, uids: Uids) -> list[str]:
    """What the container runs, without the interpreter."""
    if arm == BARE:
        return ["-I", "-c", _BARE_PROGRAM]
    if arm == ONLY_UIDS:
        return ["-I", "-c", _ONLY_UIDS_PROGRAM, str(uids.daemon), str(uids.worker)]
    worker = ["--worker-uid", str(uids.worker)] if arm == "A" else []
    given = ["--daemon-uid", str(uids.daemon), *worker]
    return ["-I", "-m", "grotto_runtime", "container", *given]


@dataclass(frozen=True)
class Ran:
    """What became of one execution."""

    outcome: str
    state: str
    note: str
    stdout: str
    error: str

    @property
    def value(self) -> Any:
        """The JSON it printed."""
        assert self.outcome == "ok", self
        return json.loads(self.stdout)


class Container:
    """One container until `remove`: its folder of sockets, the launch, the daemon's service."""

    def __init__(self, arm: str, uids: Uids) -> None:
        self.arm, self.uids = arm, uids
        self.token = secrets.token_hex(32)
        self.name = f"{TEST_CONTAINER}{secrets.token_hex(6)}"
        with tempfile.NamedTemporaryFile("w", suffix=".json") as profile:
            json.dump(_NO_LANDLOCK, profile)
            profile.flush()
            flags = run_flags(arm, uids, profile.name if arm == ONLY_UIDS else "")
            docker("run", "--detach", "--name", self.name, *flags, IMAGE, *command(arm, uids))
        inspected = json.loads(docker("inspect", self.name))[0]
        self.pid = int(inspected["State"]["Pid"])
        (source,) = [m["Source"] for m in inspected["Mounts"] if m["Destination"] == "/run/grotto"]
        self.folder = Path(source)
        # The path itself is longer than an address of a socket may be.
        self._folder = os.open(source, os.O_PATH | os.O_DIRECTORY)
        self._channel: grpc.Channel | None = None

    def connect(self) -> socket.socket:
        """Connects to the launch socket once it is there."""
        wait_for(lambda: (self.folder / "launch.sock").exists() or not self.is_running())
        launch = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        launch.settimeout(DEADLINE_S)
        end_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                launch.connect(f"/proc/self/fd/{self._folder}/launch.sock")
            except ConnectionRefusedError:  # bound, and not yet listening
                assert time.monotonic() < end_s, self.log()
                continue
            except FileNotFoundError as error:
                raise AssertionError(self.log()) from error
            return launch

    def config(self, **changes: object) -> bytes:
        """The line of configuration."""
        fixed = {
            "sandbox_id": "s", "token": self.token, "run_dir": "/run/grotto",
            "workspace": "/workspace", "isolation": "container" if self.arm in ARMS else "none",
            "uid": None, "disk_bytes": 64 * MIB, "inodes": 0, "preload": ["numpy", "pandas"],
            "lease": False, "orphan_grace_s": 300.0,
        }  # fmt: skip
        return json.dumps({**fixed, **changes}).encode() + b"\n"

    def launch(self, **changes: object) -> socket.socket:
        """Hands the configuration over and returns the connection once the daemon serves."""
        launch = self.connect()
        launch.sendall(self.config(**changes))
        said = read_line(launch)
        assert said == {"ready": True}, (said, self.log())
        self._channel = grpc.insecure_channel(f"unix:/proc/self/fd/{self._folder}/r.sock")
        self.stub = runtime_pb2_grpc.RuntimeStub(self._channel)
        self.metadata = ((TOKEN, self.token),)
        return launch

    def bind(self, **limits: float) -> None:
        usual = {
            "cpus": 2.0, "memory_bytes": 256 * MIB, "pids": 32, "disk_bytes": 64 * MIB,
            "wall_s": 20.0, "cpu_s": 60.0, "output_bytes": MIB, "value_bytes": 64 * MIB,
        }  # fmt: skip
        given = sessions_pb2.Limits(**{**usual, **limits})
        request = runtime_pb2.BindRequest(session_id="session", policy="open", limits=given)
        self.stub.Bind(request, metadata=self.metadata, timeout=DEADLINE_S)

    def execute(self, source: str, **limits: float) -> Ran:
        spec = execution_pb2.ExecutionSpec(
            execution_id=secrets.token_hex(8), source=source,
            limits=execution_pb2.ExecutionLimits(**limits),
        )  # fmt: skip
        stdout = b""
        for batch in self.stub.Execute(spec, metadata=self.metadata, timeout=120):
            for event in batch.events:
                stdout += event.stdout
                if event.HasField("finished"):
                    return _ran(event.finished, stdout)
        raise AssertionError("the stream ended before the execution did")

    def upload(self, path: str, data: bytes) -> None:
        parts = [
            runtime_pb2.RuntimeUploadRequest(
                spec=values_pb2.FileSpec(path=path, size_bytes=len(data))
            ),
            runtime_pb2.RuntimeUploadRequest(chunk=data),
        ]
        self.stub.UploadFile(iter(parts), metadata=self.metadata, timeout=DEADLINE_S)

    def download(self, path: str) -> bytes:
        spec = values_pb2.FileSpec(path=path)
        chunks = self.stub.DownloadFile(spec, metadata=self.metadata, timeout=DEADLINE_S)
        return b"".join(chunk.chunk for chunk in chunks)

    def isolation(self) -> sessions_pb2.Isolation:
        request = runtime_pb2.HandshakeRequest(wire_version=1)
        return self.stub.Handshake(request, metadata=self.metadata, timeout=30).isolation

    def worker_pid(self) -> int:
        """Inside."""
        request = runtime_pb2.RuntimeUsageRequest()
        return self.stub.GetUsage(request, metadata=self.metadata, timeout=30).worker_pid

    def processes(self) -> dict[str, "Seen"]:
        """Every process by its part: daemon, spawner, zygote, checker, worker, frozen."""
        # One that is ending has no command line any more.
        alive = [one for one in _descendants(self.pid) if one.command]
        seen = sorted(alive, key=lambda one: one.inside)
        worker = self.worker_pid()
        found: dict[str, Seen] = {}
        for one in seen:
            part = _part(one, worker, "zygote" in found)
            found[part] = one
        return found

    def is_running(self) -> bool:
        return docker("inspect", "--format", "{{.State.Running}}", self.name) == "true"

    def exit_status(self) -> int:
        return int(docker("wait", self.name))

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr

    def remove(self) -> None:
        """Removes the container and its volume."""
        if self._channel is not None:
            self._channel.close()
        os.close(self._folder)
        docker("rm", "--force", "--volumes", self.name)


@dataclass(frozen=True)
class Seen:
    """One process of a container as the host sees it."""

    pid: int
    inside: int
    parent: int
    command: str
    status: dict[str, str]

    @property
    def ids(self) -> set[int]:
        """Real, effective, saved and file-system uid and gid."""
        return {int(word) for name in ("Uid", "Gid") for word in self.status[name].split()}

    @property
    def groups(self) -> set[int]:
        return {int(word) for word in self.status["Groups"].split()}

    def capabilities(self, name: str) -> int:
        return int(self.status[name], 16)


def _seen(pid: int) -> Seen:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    said = b" ".join(words).decode()
    return Seen(pid, int(status["NSpid"].split()[-1]), int(status["PPid"]), said, status)


def _descendants(pid: int) -> Iterator[Seen]:
    yield _seen(pid)
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                yield from _descendants(int(child))


def _part(one: Seen, worker: int, has_zygote: bool) -> str:
    if one.inside == 1:
        return "daemon"
    if one.inside == worker:
        return "worker"
    if "grotto_runtime.checker" in one.command:
        return "checker"
    if "grotto_worker" in one.command:
        return "frozen" if has_zygote else "zygote"
    return "spawner"


def _ran(finished: execution_pb2.Finished, stdout: bytes) -> Ran:
    return Ran(
        execution_pb2.Outcome.Name(finished.outcome).removeprefix("OUTCOME_").lower(),
        execution_pb2.State.Name(finished.state).removeprefix("STATE_").lower(),
        finished.state_note,
        stdout.decode(),
        f"{finished.error.name}: {finished.error.message}",
    )


def read_line(connection: socket.socket) -> dict[str, Any]:
    """Returns the line of JSON that comes, {} when the end comes instead."""
    line = b""
    while not line.endswith(b"\n") and (more := connection.recv(4096)):
        line += more
    return dict(json.loads(line or b"{}"))


def wait_for(condition: Any) -> None:
    """Returns when it is true; fails when it stays false."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, "it never became true"
        time.sleep(POLL_S)


@contextmanager
def made(arm: str, uids: Uids | None = None) -> Iterator[Container]:
    """A container that runs and has not been launched."""
    container = Container(arm, uids or choose_uids(arm))
    try:
        yield container
    finally:
        container.remove()


@contextmanager
def bound(arm: str, **limits: float) -> Iterator[Container]:
    """A container with a session under policy "open"."""
    with made(arm) as container:
        container.launch().close()
        container.bind(**limits)
        yield container
