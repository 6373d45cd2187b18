"""What this machine offers, found by trying it in a forked child. Judges nothing."""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

from grotto_worker.harden import landlock, seccomp
from grotto_worker.harden.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_PRIVATE,
    MS_REC,
    architecture,
    mount,
    pivot_root,
    unshare,
)

_ALL_NAMESPACES = (
    CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
)


@dataclass(frozen=True)
class Offer:
    """What a sandbox on this machine can be built from."""

    landlock_abi: int
    """0: none."""
    seccomp: bool
    user_namespaces: bool
    """All namespaces, an own root file system and an own /proc were really made."""
    user_namespaces_obstacle: str
    """What failed, "" when nothing did."""
    architecture: str
    """"" when system calls cannot be made by number here."""
    kernel: str
    is_root: bool
    cgroup: str
    """"v2", "v1", "hybrid" or "none"."""

    def as_json(self) -> str:
        """Returns one JSON object."""
        return json.dumps(dataclasses.asdict(self))


def probe() -> Offer:
    """Tries every control. Takes some milliseconds; the caller itself is not changed."""
    if not architecture():
        system = os.uname()
        obstacle = f"{system.sysname} on {system.machine} is not supported"
        return Offer(0, False, False, obstacle, "", system.release, os.geteuid() == 0, "none")
    obstacle = _namespaces_obstacle()
    return Offer(
        landlock_abi=landlock.abi(),
        seccomp=seccomp.available(),
        user_namespaces=not obstacle,
        user_namespaces_obstacle=obstacle,
        architecture=architecture(),
        kernel=os.uname().release,
        is_root=os.geteuid() == 0,
        cgroup=_cgroup(),
    )


def _cgroup() -> str:
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    legacy = os.path.isdir("/sys/fs/cgroup/memory")
    hybrid = legacy and os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers")
    return "v2" if unified else "hybrid" if hybrid else "v1" if legacy else "none"


def _namespaces_obstacle() -> str:
    """Makes the namespaces in a child; returns what failed there, or ""."""
    uid, gid = os.geteuid(), os.getegid()
    report, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report)
        _report_and_exit(lambda: _try_namespaces(uid, gid), write)
    os.close(write)
    with open(report, "rb") as pipe:
        said = pipe.read(500).decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    return said or ("" if status == 0 else "the trial ended without a word")


def _report_and_exit(step: Callable[[], None], write: int) -> None:
    code = 0
    try:
        step()
    except BaseException as error:
        os.write(write, str(error).encode(errors="replace")[:500])
        code = 1
    finally:
        os._exit(code)


def _try_namespaces(uid: int, gid: int) -> None:
    try:
        unshare(_ALL_NAMESPACES)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        raise OSError(f"user namespaces: {error.strerror}") from error
    first = os.fork()
    if first == 0:
        code = 1
        try:
            code = _try_root()
        finally:
            os._exit(code)
    step = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    if step:
        name = {2: "an own mount tree", 3: "pivot_root", 4: "an own /proc"}.get(step, "a fork")
        raise OSError(f"inside a user namespace, {name} was refused")


def _try_root() -> int:
    """As the first process of the new namespaces: 0, or the number of the step that failed."""
    step = 2
    try:
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        mount("tmpfs", "/usr", "tmpfs")
        step = 3
        os.mkdir("/usr/old")
        pivot_root("/usr", "/usr/old")
        os.chdir("/")
        step = 4
        os.mkdir("/proc")
        mount("proc", "/proc", "proc")
    except OSError:
        return step
    return 0
