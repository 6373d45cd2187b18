"""Level "container": the walls are the engine's; this divides daemon and worker inside them.

Runs in PID 1, single-threaded, before anything else. Control A, started by uid 0 with SETUID,
SETGID and KILL: the spawner becomes one uid for good, the daemon another, which keeps KILL to
end what it does not own. Control B, started by the daemon's uid with no capability: both share
that uid, and what the worker takes from itself divides them. It never starts anything in a
container that is not as promised.
"""

import os
import stat
from collections.abc import Iterator

from grotto_runtime.enclosure import spawner
from grotto_runtime.enclosure.entry import Entered
from grotto_runtime.enclosure.levels import EnclosureRefused
from grotto_runtime.enclosure.namespaces import INNER_ID
from grotto_worker.harden import (
    DEVICE_PATHS,
    SYSTEM_PATHS,
    capabilities,
    interpreter_paths,
    probe,
)
from grotto_worker.harden.syscalls import (
    PR_GET_NO_NEW_PRIVS,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    prctl,
)

RUN, WORKSPACE, TEMPORARY, SHARED = "/run/grotto", "/workspace", "/tmp", "/dev/shm"  # noqa: S108

_AT_START = frozenset({capabilities.SETUID, capabilities.SETGID, capabilities.KILL})
_SOCKET_MODE = 0o660
_UMASK = 0o007
"""Daemon and worker share files by the worker's group; sockets are the control plane's, by its."""
_HINT = "Containers of sandboxes are made by the docker backend; do not start the image by hand."


def enter(daemon_uid: int, worker_uid: int | None) -> Entered:
    """Becomes the daemon; what it starts is the worker's, without any capability.

    Args:
        daemon_uid: uid and gid of the daemon.
        worker_uid: uid and gid of all it starts; None: the daemon's (control B).

    Raises:
        EnclosureRefused: the container is not as promised. Nothing was started.
    """
    for obstacle in _obstacles(daemon_uid, worker_uid):
        raise EnclosureRefused(f"this container cannot be a sandbox: {obstacle}.", _HINT)
    os.umask(_UMASK)
    try:
        inner = spawner.start(lambda: _become_worker(worker_uid), die_with_daemon=False)
        kept = _become_daemon(daemon_uid, worker_uid)
    except (spawner.SpawnFailed, OSError) as error:
        raise EnclosureRefused(f"the sandbox could not be built: {error}.", _HINT) from error
    layers, missing = _found(worker_uid)
    return Entered(
        level="container",
        layers=layers,
        missing=missing,
        run_dir=RUN,
        workspace=WORKSPACE,
        tmp_dir=TEMPORARY,
        read_paths=(*SYSTEM_PATHS, "/etc", *interpreter_paths()),
        write_paths=(WORKSPACE, TEMPORARY, SHARED),
        device_paths=DEVICE_PATHS,
        spawner=inner,
        daemon_capabilities=kept,
        socket_mode=_SOCKET_MODE,
        environment={"HOME": WORKSPACE, "USER": "sandbox"},
    )


def _become_worker(worker_uid: int | None) -> None:
    """In the spawner."""
    if worker_uid is not None:
        os.setgroups([])
        os.setresgid(worker_uid, worker_uid, worker_uid)
        os.setresuid(worker_uid, worker_uid, worker_uid)
    capabilities.drop_all()
    prctl(PR_SET_DUMPABLE, 0)


def _become_daemon(daemon_uid: int, worker_uid: int | None) -> tuple[int, ...]:
    """In PID 1; returns the capabilities that are left."""
    kept: tuple[int, ...] = ()
    if worker_uid is not None:
        kept = (capabilities.KILL,)
        os.setgroups([worker_uid])
        os.setresgid(daemon_uid, daemon_uid, daemon_uid)
        prctl(PR_SET_KEEPCAPS, 1)
        os.setresuid(daemon_uid, daemon_uid, daemon_uid)
        prctl(PR_SET_KEEPCAPS, 0)
    capabilities.keep_only(kept)
    prctl(PR_SET_DUMPABLE, 0)
    return kept


# ---- what was promised ----


def _obstacles(daemon_uid: int, worker_uid: int | None) -> Iterator[str]:
    """Yields what is not as it must be, the plainest first."""
    if os.getpid() != 1:
        yield "it is not the first process of a pid namespace of its own"
    yield from _wrong_uids(daemon_uid, worker_uid)
    if not prctl(PR_GET_NO_NEW_PRIVS):
        yield "no-new-privileges is not set"
    if _has_a_route():
        yield "it has a network"
    yield from _wrong_folders(daemon_uid, worker_uid)
    if worker_uid is None and not probe().seccomp:
        yield "daemon and worker share a uid, and the kernel has no seccomp to divide them"


def _wrong_uids(daemon_uid: int, worker_uid: int | None) -> Iterator[str]:
    wanted_uid, wanted = (daemon_uid, frozenset[int]()) if worker_uid is None else (0, _AT_START)
    if min(daemon_uid, daemon_uid if worker_uid is None else worker_uid) < INNER_ID:
        yield f"uids below {INNER_ID} may belong to the system"
    if daemon_uid == worker_uid:
        yield "daemon and worker were given the same uid"
    if {*os.getresuid(), *os.getresgid()} != {wanted_uid}:
        yield f"it runs as uid {os.geteuid()}, gid {os.getegid()}, not as {wanted_uid}:{wanted_uid}"
    if not set(os.getgroups()) <= {wanted_uid}:
        yield "it has supplementary groups"
    if capabilities.permitted() != wanted or not capabilities.bounding() <= wanted:
        listed = "SETUID, SETGID and KILL" if wanted else "none"
        yield f"its capabilities are not exactly those it needs ({listed})"


def _wrong_folders(daemon_uid: int, worker_uid: int | None) -> Iterator[str]:
    owner = daemon_uid if worker_uid is None else worker_uid
    for path, uid in ((RUN, daemon_uid), (WORKSPACE, owner), (TEMPORARY, owner)):
        try:
            found = os.stat(path)
        except OSError as error:
            yield f"{path}: {error.strerror}"
            continue
        # runc gives a tmpfs the mode of the folder it covers (up to 1.1), so /tmp may stay open.
        is_open = path != TEMPORARY and found.st_mode & 0o007
        if found.st_uid != uid or not stat.S_ISDIR(found.st_mode) or is_open:
            yield f"{path} does not belong to uid {uid} and its group alone"


def _has_a_route() -> bool:
    """Whether anything but the loopback can be reached, by the kernel's own tables."""
    with open("/proc/net/route") as file:
        if len(file.readlines()) > 1:
            return True
    try:
        with open("/proc/net/ipv6_route") as file:
            return any(line.split()[-1] != "lo" for line in file)
    except FileNotFoundError:
        return False


def _found(worker_uid: int | None) -> tuple[list[str], list[str]]:
    """Returns the layers of the container that are there, and those that are not."""
    space = os.statvfs(WORKSPACE)
    walls = {
        "separate_uids": worker_uid is not None,
        "pid_namespace": True,  # both checked by `_obstacles`
        "network_namespace": True,
        "read_only_root": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "disk_quota": os.stat(WORKSPACE).st_dev != os.stat("/").st_dev and space.f_files > 0,
    }
    there = [wall for wall, is_there in walls.items() if is_there]
    return there, [wall for wall in walls if wall not in there]
