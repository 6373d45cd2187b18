"""How attacks are run: in a forked child, with the layers under test put in force first."""

import faulthandler
import json
import os
import socket
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grotto_runtime.enclosure import EnclosureSpec, Entered, enter
from grotto_worker import harden
from grotto_worker.harden import capabilities, landlock, rules, seccomp, syscalls

Arm = Callable[[], object]

SANDBOX_UID = 1_610_612_730


@dataclass(frozen=True)
class Outcome:
    """What became of an attack: a value, an errno, or the signal that ended it."""

    value: Any = None
    errno: int | None = None
    signal: int | None = None
    text: str = ""

    @property
    def worked(self) -> bool:
        return self.errno is None and self.signal is None


def run_forked(attack: Callable[[], object], *arms: Arm) -> Outcome:
    """Runs `arms`, then the attack, in a child; an attack returns JSON or raises OSError."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _report(write, attack, arms)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return Outcome(signal=os.WTERMSIG(status))
    return _outcome(said)


def _outcome(said: bytes) -> Outcome:
    answer = json.loads(said or b'{"crash": "the child said nothing"}')
    if "crash" in answer:
        raise AssertionError(answer["crash"])
    return Outcome(**answer)


def _report(write: int, attack: Callable[[], object], arms: tuple[Arm, ...]) -> None:
    faulthandler.disable()  # an attack may crash on purpose
    try:
        for arm in arms:
            arm()
        try:
            answer: dict[str, object] = {"value": attack()}
        except OSError as error:
            answer = {"errno": error.errno, "text": str(error)}
        os.write(write, json.dumps(answer, default=repr).encode())
    except BaseException:
        os.write(write, json.dumps({"crash": traceback.format_exc()}).encode())
    finally:
        os._exit(0)


def bare() -> None:
    """The control arm: no capability and no way to one, but every system call and file."""
    capabilities.drop_all()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class Arms:
    """The layers of one worker specification: none (the control arm), each alone, together."""

    spec: harden.WorkerSpec

    def bare(self) -> None:
        bare()

    def worker(self) -> None:
        harden.apply_worker(self.spec)
        harden.scope_worker()

    def only_seccomp(self) -> None:
        bare()
        program = seccomp.compile_rules(rules.worker_rules(self.spec), syscalls.architecture())
        seccomp.install(program)

    def only_landlock(self) -> None:
        bare()
        landlock.restrict_worker(self.spec, landlock.abi())


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def worker_spec(workspace: Path, level: str = "reduced") -> harden.WorkerSpec:
    return harden.WorkerSpec(
        read_paths=(*harden.SYSTEM_PATHS, *harden.SYSTEM_FILES, *harden.interpreter_paths()),
        write_paths=(str(workspace),),
        allow_sockets=level == "full",
        level=level,
    )


@pytest.fixture
def forked() -> Callable[..., Outcome]:
    """forked(attack, *arms): runs the attack in a child under the arms."""
    return run_forked


@pytest.fixture
def arms(workspace: Path) -> Arms:
    """At level "reduced": the strictest, and the one with nothing else around it."""
    return Arms(worker_spec(workspace))


@pytest.fixture
def bystander() -> Iterator[int]:
    """The pid of somebody else's process of the same uid."""
    with subprocess.Popen(
        ["cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=bare,  # root's capabilities would protect it from the control arm too
    ) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file of the sandbox's owner that the sandbox has no business with."""
    folder = tmp_path / "home"
    folder.mkdir()
    file = folder / "secret"
    file.write_text("canary")
    return file


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Callable[..., socket.socket]]:
    """Makes listening sockets outside: listener(family, type, address)."""
    made: list[socket.socket] = []

    def listen(family: int, kind: int, address: Any, protocol: int = 0) -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        made.append(sock)
        sock.bind(address)
        if kind != socket.SOCK_DGRAM:
            sock.listen()
        return sock

    yield listen
    for sock in made:
        sock.close()


@dataclass(frozen=True)
class Enclosures:
    """Builds sandboxes of level "full" in which tests are the daemon."""

    folder: Path

    def run(
        self, daemon: Callable[[Entered], object], *, disk_bytes: int = 8 << 20, inodes: int = 128
    ) -> Outcome:
        """Runs `daemon` as PID 1 of a new sandbox and returns what it returned."""
        run_dir = self.folder / "run"
        run_dir.mkdir(mode=0o700, exist_ok=True)
        uid = SANDBOX_UID if os.geteuid() == 0 else None
        if uid is not None:
            os.chown(run_dir, uid, uid)
        spec = EnclosureSpec("full", str(run_dir), "", uid, disk_bytes, inodes)
        read, write = os.pipe()
        keeper = os.fork()
        if keeper == 0:
            os.close(read)
            _keep(spec, daemon, write)
        os.close(write)
        with open(read, "rb") as pipe:
            said = pipe.read()
        os.waitpid(keeper, 0)
        return _outcome(said)


def _keep(spec: EnclosureSpec, daemon: Callable[[Entered], object], write: int) -> None:
    """Between pytest and the launcher: collects every process that the sandbox leaves."""
    try:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        launcher = os.fork()
        if launcher == 0:
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 1)
            _report(write, lambda: daemon(enter(spec)), ())
        os.close(write)
        while True:
            os.wait()
    except ChildProcessError:
        os._exit(0)
    finally:
        os._exit(1)


@pytest.fixture
def enclosures(tmp_path: Path) -> Enclosures:
    offer = harden.probe()
    if not offer.user_namespaces:
        pytest.skip(f"no user namespaces here: {offer.user_namespaces_obstacle}")
    return Enclosures(tmp_path)
