"""Turns the launcher into the first process of new namespaces. Knows nothing of files.

Source: user_namespaces(7), pid_namespaces(7).
"""

import contextlib
import os
from collections.abc import Callable

from grotto_worker.harden import capabilities
from grotto_worker.harden.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    unshare,
)

INNER_ID = 1000
"""uid and gid of everything inside."""

_ALL = (
    CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNS
    | CLONE_NEWNET
    | CLONE_NEWIPC
    | CLONE_NEWUTS
    | CLONE_NEWCGROUP
)
_FAILURE_BYTES = 2000

# In a user namespace of its own, the kernel holds the sandbox to these by itself. The counters
# of the outer uid grow along, so that without them a sandbox could use up its owner's share.
_KERNEL_LIMITS = {
    "max_user_namespaces": 0,
    "max_pid_namespaces": 0,
    "max_net_namespaces": 0,
    "max_ipc_namespaces": 0,
    "max_uts_namespaces": 0,
    "max_cgroup_namespaces": 0,
    "max_time_namespaces": 0,
    "max_mnt_namespaces": 2,  # the daemon's and the inner processes'
    "max_inotify_instances": 16,
    "max_inotify_watches": 1024,
    "max_fanotify_groups": 0,
    "max_fanotify_marks": 0,
}


class NamespacesFailed(Exception):
    """The namespaces could not be made; nothing runs in them."""


def become_first_process(uid: int | None, announce: Callable[[int], None]) -> None:
    """Returns in PID 1 of new namespaces only; the calling process ends with status 0.

    Between the two, a process in the old pid namespace enters the new ones and forks, because
    only it learns the pid that the first process has outside; it hands it to `announce`.

    Args:
        uid: the sandbox's uid outside, when the caller is root; None: the caller's own.
        announce: called with the outer pid, before the first process goes on.

    Raises:
        NamespacesFailed: in the calling process, which then still is what it was.
    """
    report, failed = os.pipe()
    wait, mapped = os.pipe()
    between = os.fork()
    if between:
        os.close(failed)
        os.close(wait)
        _map_ids(between, uid, report, mapped)
        os._exit(0)
    os.close(report)
    os.close(mapped)
    try:
        is_first = _enter(uid, failed, wait, announce)
    except BaseException as error:
        os.write(failed, str(error).encode(errors="replace")[:_FAILURE_BYTES])
        os._exit(1)
    if not is_first:
        os._exit(0)
    os.close(failed)
    os.close(wait)
    os.setsid()


def _enter(uid: int | None, ready: int, wait: int, announce: Callable[[int], None]) -> bool:
    """Returns True in the first process, once its pid is announced; False in its maker."""
    if uid is not None:
        os.setgroups([])
    unshare(_ALL)
    os.write(ready, b"\n")
    if os.read(wait, 1) != b"\n":
        raise NamespacesFailed("the launcher ended")
    hold, go = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(go)
        if os.read(hold, 1) != b"\n":
            os._exit(1)
        os.close(hold)
        return True
    announce(first)
    os.write(go, b"\n")
    return False


def _map_ids(pid: int, uid: int | None, report: int, mapped: int) -> None:
    """Writes the id maps of `pid` when it has entered, and waits until it has done its part."""
    try:
        said = os.read(report, _FAILURE_BYTES)
        if said == b"\n":
            # A map of several lines needs privilege outside, so it is written from here.
            for name, text in _maps(uid).items():
                with open(f"/proc/{pid}/{name}", "w") as file:
                    file.write(text)
            os.write(mapped, b"\n")
            said = os.read(report, _FAILURE_BYTES)
    except OSError as error:
        said = str(error).encode()
    finally:
        os.close(mapped)
        os.close(report)
    status = os.waitpid(pid, 0)[1]
    if said or status:
        raise NamespacesFailed(said.decode(errors="replace").strip() or "the launcher died")


def _maps(uid: int | None) -> dict[str, str]:
    if uid is None:
        users, groups = f"{INNER_ID} {os.geteuid()} 1", f"{INNER_ID} {os.getegid()} 1"
    else:
        # Root itself is there while the walls go up: Python may lie below a home of mode 0700.
        users = groups = f"0 0 1\n{INNER_ID} {uid} 1"
    return {"setgroups": "deny", "uid_map": users, "gid_map": groups}


def limit_kernel_objects() -> None:
    """Bounds what this user namespace may ask of the kernel; needs its capabilities and /proc."""
    for name, value in _KERNEL_LIMITS.items():
        with (
            contextlib.suppress(FileNotFoundError),
            open(f"/proc/sys/user/{name}", "w") as file,
        ):
            file.write(str(value))


def give_up_root() -> None:
    """Becomes the inner uid, without a capability, for good."""
    capabilities.drop_bounding()
    os.setresgid(INNER_ID, INNER_ID, INNER_ID)
    os.setresuid(INNER_ID, INNER_ID, INNER_ID)
    capabilities.drop_all()
