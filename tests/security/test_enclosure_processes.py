"""The processes of an enclosure: who starts whom, what they hold, and that they end together."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grotto_runtime.enclosure import Entered, SpawnFailed
from grotto_runtime.enclosure.spawner import start
from grotto_worker import harden

SHOW = """
import json, os, sys
show = {"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0),
        "env": dict(os.environ), "cwd": os.getcwd(), "fds": []}
for n in range(3, 64):
    try:
        os.fstat(n); show["fds"].append(n)
    except OSError:
        pass
os.write(7, json.dumps(show).encode())
"""
WAIT = "import os, sys; os.write(7, b'x'); sys.stdin.close(); os.read(8, 1)"


def ask(entered: Entered, code: str, *more: int) -> tuple[int, bytes]:
    read, write = os.pipe()
    fds = {7: write, **{8 + at: fd for at, fd in enumerate(more)}}
    pid = entered.spawn_inner([sys.executable, "-I", "-c", code], fds, {"A": "b"})
    os.close(write)
    try:
        return pid, os.read(read, 65536)
    finally:
        os.close(read)


def test_inner_processes_are_the_daemons_children_with_only_what_they_were_given(
    enclosures: Any,
) -> None:
    def run(entered: Entered) -> object:
        secret = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(secret, True)
        pid, said = ask(entered, SHOW)
        os.waitpid(pid, 0)  # only a parent may
        return {"pid_told": pid, **json.loads(said)}

    show = enclosures.run(run).value
    assert show["pid"] == show["pid_told"] == show["session"]
    assert show["parent"] == 1
    assert {name for name in show["env"] if name != "LC_CTYPE"} == {"A"}  # Python sets LC_CTYPE
    assert show["cwd"] == "/workspace"
    assert show["fds"] == [7]


def test_descriptors_get_their_numbers_even_when_these_are_in_use(enclosures: Any) -> None:
    def run(entered: Entered) -> list[str]:
        pipes = [os.pipe() for _ in range(4)]
        # Turned round: every number wanted is another one's source.
        wanted = {pipes[i][1]: pipes[3 - i][1] for i in range(4)}
        code = "import os, sys\nfor n in sys.argv[1:]: os.write(int(n), n.encode())"
        argv = [sys.executable, "-I", "-c", code, *(str(pipes[i][1]) for i in range(4))]
        os.waitpid(entered.spawn_inner(argv, wanted), 0)
        return [os.read(pipes[3 - i][0], 10).decode() + f"={pipes[i][1]}" for i in range(4)]

    for pair in enclosures.run(run).value:
        got, wanted = pair.split("=")
        assert got == wanted


def test_a_dead_inner_process_is_started_again_by_the_hardened_daemon(enclosures: Any) -> None:
    """The daemon has given up everything by then; the spawner needs no right of its own."""

    def run(entered: Entered) -> list[object]:
        harden.apply_daemon()
        hold, _kept = os.pipe()
        first, _ = ask(entered, WAIT, hold)
        os.kill(first, signal.SIGKILL)
        ended = os.waitpid(first, 0)[1]
        second, said = ask(entered, SHOW)
        os.waitpid(second, 0)
        return [ended, json.loads(said)["parent"]]

    assert enclosures.run(run).value == [signal.SIGKILL, 1]


def test_a_program_that_cannot_be_executed_is_explained(enclosures: Any) -> None:
    def run(entered: Entered) -> list[object]:
        said: list[object] = []
        for argv in (["/nonexistent/program"], ["/etc/passwd"]):
            try:
                entered.spawn_inner(argv)
            except SpawnFailed as error:
                said.append(str(error))
        os.waitpid(-1, 0)
        os.kill(entered.spawner.pid, signal.SIGKILL)
        try:
            entered.spawn_inner(["/bin/true"])
        except SpawnFailed as error:
            said.append(type(error).__name__)
        return said

    missing, not_a_program, gone = enclosures.run(run).value
    assert "No such file" in missing
    assert "Permission denied" in not_a_program
    assert gone == "SpawnFailed"


def test_inner_processes_are_the_kernels_first_choice_when_memory_ends(enclosures: Any) -> None:
    def run(entered: Entered) -> list[str]:
        hold, _kept = os.pipe()
        pid, _ = ask(entered, WAIT, hold)
        scores = []
        for one in (1, pid):
            with open(f"/proc/{one}/oom_score_adj") as file:
                scores.append(file.read().strip())
        return scores

    daemon, worker = enclosures.run(run).value
    assert int(worker) > int(daemon)


LAUNCHER = """
import os, sys
from grotto_runtime.enclosure import EnclosureSpec, enter
level, folder, uid = sys.argv[1], sys.argv[2], int(sys.argv[3]) or None
entered = enter(EnclosureSpec(level, folder, folder, uid, 1 << 20, 64))
os.write(1, b'{"ready": true}\\n')
hold, kept = os.pipe()
read, write = os.pipe()
code = "import os; os.write(7, b'x'); os.read(8, 1)"
inner = entered.spawn_inner([sys.executable, "-I", "-c", code], {7: write, 8: hold})
os.read(read, 1)
os.write(1, str(inner).encode() + b"\\n")
os.read(0, 1)
"""


def launch(level: str, folder: Path, uid: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, level, str(folder), str(uid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)}, start_new_session=True,
    )  # fmt: skip


def ended(pidfd: int, within_s: float = 10) -> bool:
    return bool(select.select([pidfd], [], [], within_s)[0])


def test_killing_the_pid_that_was_told_ends_the_sandbox(enclosures: Any, tmp_path: Path) -> None:
    uid = 0 if os.geteuid() else 1_610_612_731
    if uid:
        os.chown(tmp_path, uid, uid)
    with launch("full", tmp_path, uid) as launcher:
        assert launcher.stdout
        assert launcher.stdin
        daemon = int(json.loads(launcher.stdout.readline())["pid"])
        assert json.loads(launcher.stdout.readline()) == {"ready": True}
        assert int(launcher.stdout.readline()) > 1
        assert launcher.wait(10) == 0
        children = _children(daemon)
        assert len(children) == 2  # spawner and inner process
        pidfds = [os.pidfd_open(pid) for pid in (daemon, *children)]
        os.kill(daemon, signal.SIGKILL)
        assert all(ended(pidfd) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("level", ["reduced", "none"])
def test_without_a_pid_namespace_inner_processes_die_with_the_daemon(
    level: str, tmp_path: Path
) -> None:
    if os.geteuid() == 0 and level == "reduced" and not _readable_for_all(sys.base_prefix):
        pytest.skip(f"{sys.base_prefix} lies where only root reads, so no other uid can run it")
    uid = 1_610_612_731 if os.geteuid() == 0 else 0
    if uid:
        os.chown(tmp_path, uid, uid)
        for folder in tmp_path.parents:
            if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
    with launch(level, tmp_path, uid) as launcher:
        assert launcher.stdout
        assert launcher.stdin
        assert json.loads(launcher.stdout.readline()) == {"pid": launcher.pid}
        assert json.loads(launcher.stdout.readline()) == {"ready": True}
        inner = os.pidfd_open(int(launcher.stdout.readline()))
        os.kill(launcher.pid, signal.SIGKILL)
        assert ended(inner)
        os.close(inner)


def _readable_for_all(path: str) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (Path(path), *Path(path).parents))


def test_root_is_told_when_no_other_uid_can_read_the_interpreter(
    forked: Any, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or _readable_for_all(sys.base_prefix):
        pytest.skip("needs root and an interpreter below a folder that only root reads")
    from grotto_runtime.enclosure import EnclosureRefused, EnclosureSpec, enter

    def run() -> str:
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        try:
            enter(EnclosureSpec("reduced", str(tmp_path), str(tmp_path), 1_610_612_731, 1, 1))
        except EnclosureRefused as refused:
            return refused.message
        return "entered"

    assert "cannot be read by the sandbox's uid" in forked(run).value


def test_a_spawner_whose_preparation_fails_is_an_error_here() -> None:
    def fail() -> None:
        raise OSError("the preparation broke")

    with pytest.raises(SpawnFailed, match="the preparation broke"):
        start(fail, die_with_daemon=True)


def test_the_doctor_reports_what_it_built() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from grotto_runtime.doctor import main; raise SystemExit(main())"],
        env={"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert set(report) == {
        "level", "layers", "missing", "kernel", "landlock_abi", "python", "notes",
    }  # fmt: skip
    assert (done.returncode == 0) == bool(report["level"])
    if report["level"]:
        assert {"seccomp", "landlock_files", "undumpable"} <= set(report["layers"])
    assert report["notes"]
