"""Puts the walls up, in the order that works, and hands over what is inside."""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grotto_runtime.enclosure import namespaces, rootfs, spawner
from grotto_runtime.enclosure.levels import NAMESPACE_LAYERS, EnclosureRefused
from grotto_runtime.enclosure.spawner import Spawner, SpawnFailed
from grotto_worker.harden import (
    DEVICE_PATHS,
    SYSTEM_FILES,
    SYSTEM_PATHS,
    capabilities,
    interpreter_paths,
)
from grotto_worker.harden.syscalls import (
    CLONE_NEWNS,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    prctl,
    unmount,
    unshare,
)

_STDOUT = 1


@dataclass(frozen=True)
class EnclosureSpec:
    """What the launch configuration says about the walls."""

    level: str
    """From `choose`."""
    run_dir: str
    """Absolute folder outside, owned by the sandbox's uid."""
    workspace: str
    """Absolute folder outside; at "full" it is not used."""
    uid: int | None
    """The sandbox's uid outside; an int exactly when the launcher is root."""
    disk_bytes: int
    inodes: int


@dataclass(frozen=True)
class Entered:
    """The sandbox as the daemon sees it from inside."""

    level: str
    layers: list[str]
    missing: list[str]
    """What could not be had although the level was; `choose` has told the rest."""
    run_dir: str
    workspace: str
    tmp_dir: str
    read_paths: tuple[str, ...]
    write_paths: tuple[str, ...]
    device_paths: tuple[str, ...]
    spawner: Spawner
    daemon_capabilities: tuple[int, ...] = ()
    """What the daemon needs to keep, to reach processes of another uid."""
    socket_mode: int = 0o600
    environment: Mapping[str, str] = field(default_factory=dict)
    """What tenant code cannot look up: a user that is in no passwd file."""

    def spawn_inner(
        self,
        argv: Sequence[str],
        pass_fds: Mapping[int, int] | Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Starts an inner process as a child of this one; see `Spawner.spawn`."""
        return self.spawner.spawn(argv, pass_fds, env)


def enter(spec: EnclosureSpec) -> Entered:
    """Puts up the walls of `spec.level` and returns inside them, without any capability at "full".

    Writes the line {"pid": N} to standard output first, N being the daemon's pid outside. At
    "full" it returns in the daemon, PID 1 of its namespaces; the calling process exits with 0.
    To be called single-threaded and before anything heavy is imported.

    Raises:
        ValueError: level or uid are not as `EnclosureSpec` says.
        EnclosureRefused: the walls cannot be put up here; at "full" it may be raised on either
            side of them, and the process must end.
    """
    _check(spec)
    os.umask(0o077)
    return _enter_full(spec) if spec.level == "full" else _enter_in_place(spec)


def _check(spec: EnclosureSpec) -> None:
    if spec.level not in ("full", "reduced", "none"):
        raise ValueError(f"isolation level {spec.level!r} cannot be entered")
    if (spec.uid is not None) != (os.geteuid() == 0):
        raise ValueError("a uid for the sandbox is given exactly when it is started by root")
    if spec.uid is not None and spec.uid < namespaces.INNER_ID:
        raise ValueError(f"uid {spec.uid} may belong to the system")


def _announce(pid: int) -> None:
    os.write(_STDOUT, json.dumps({"pid": pid}).encode() + b"\n")


def _enter_full(spec: EnclosureSpec) -> Entered:
    read_paths = interpreter_paths()
    missing = _groups_kept(spec)
    try:
        namespaces.become_first_process(spec.uid, _announce)
        rootfs.build(read_paths, spec.run_dir, spec.disk_bytes, spec.inodes)
        namespaces.limit_kernel_objects()
        socket.sethostname("sandbox")
        inner = spawner.start(_leave_the_daemons_view, die_with_daemon=False)
        namespaces.give_up_root()
    except (namespaces.NamespacesFailed, SpawnFailed, OSError) as error:
        raise EnclosureRefused(f"the sandbox could not be built: {error}.") from error
    return Entered(
        level=spec.level,
        layers=list(NAMESPACE_LAYERS),
        missing=missing,
        run_dir=rootfs.RUN,
        workspace=rootfs.WORKSPACE,
        tmp_dir=rootfs.TEMPORARY,
        read_paths=(*SYSTEM_PATHS, "/etc", *read_paths),
        write_paths=(rootfs.WORKSPACE, rootfs.TEMPORARY),
        device_paths=DEVICE_PATHS,
        spawner=inner,
    )


def _leave_the_daemons_view() -> None:
    """In the spawner: from here on no inner process sees the daemon's socket or /proc."""
    unshare(CLONE_NEWNS)
    unmount(rootfs.RUN)
    unmount("/proc")
    namespaces.give_up_root()
    _seal()


def _seal() -> None:
    capabilities.drop_all()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)


def _enter_in_place(spec: EnclosureSpec) -> Entered:
    """Levels "reduced" and "none": no walls around the daemon, only around what it starts."""
    _announce(os.getpid())
    read_paths = interpreter_paths()
    reduced = spec.level == "reduced"
    if reduced and spec.uid is not None:
        _become(spec.uid, (*read_paths, spec.workspace, spec.run_dir))
    tmp_dir = os.path.join(spec.workspace, ".tmp")
    os.makedirs(tmp_dir, mode=0o700, exist_ok=True)
    os.chdir(spec.workspace)
    try:
        inner = spawner.start(_seal if reduced else _nothing, die_with_daemon=True)
    except SpawnFailed as error:
        raise EnclosureRefused(f"the sandbox could not be built: {error}.") from error
    return Entered(
        level=spec.level,
        layers=["own_uid"] if reduced and spec.uid is not None else [],
        missing=_groups_kept(spec),
        run_dir=spec.run_dir,
        workspace=spec.workspace,
        tmp_dir=tmp_dir,
        read_paths=(*SYSTEM_PATHS, *SYSTEM_FILES, *read_paths),
        write_paths=(spec.workspace,),
        device_paths=DEVICE_PATHS,
        spawner=inner,
    )


def _groups_kept(spec: EnclosureSpec) -> list[str]:
    """An ordinary user cannot give up groups, not even in a user namespace (user_namespaces(7))."""
    if spec.uid is not None and spec.level != "none":
        return []
    return ["groups_dropped"] if set(os.getgroups()) - {os.getegid()} else []


def _nothing() -> None:
    return None


def _become(uid: int, needed: tuple[str, ...]) -> None:
    """Gives up root for the sandbox's uid, which must be able to read what it needs."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    for path in needed:
        try:
            os.listdir(path)
        except OSError as error:
            raise EnclosureRefused(
                f"{path} cannot be read by the sandbox's uid {uid} ({error.strerror}).",
                "Install Python where every user can read it, or start Grotto as an ordinary user.",
            ) from error
