"""Puts the layers in force, in the one order that works. For good: nothing here can be undone."""

from dataclasses import dataclass, field

from grotto_worker.harden import capabilities, landlock, seccomp
from grotto_worker.harden.interpreter import interpreter_paths
from grotto_worker.harden.paths import SYSTEM_FILES, SYSTEM_PATHS, WorkerSpec
from grotto_worker.harden.rules import Rules, daemon_rules, worker_rules
from grotto_worker.harden.syscalls import (
    PR_GET_NO_NEW_PRIVS,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    architecture,
    prctl,
)

_BASE = ("no_capabilities", "no_new_privileges", "undumpable")
_LEVELS = ("full", "reduced", "container", "none")


@dataclass(frozen=True)
class Applied:
    """What is now in force, and what this kernel does not offer."""

    layers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def apply_worker(spec: WorkerSpec) -> Applied:
    """Hardens the calling process and all it will ever start; for single-threaded callers.

    At level "none" nothing is done, and everything is listed as missing.

    Raises:
        ValueError: an unknown level.
        OSError: a control that the kernel offers could not be put in force, or a path to
            write in does not exist. The process must then end: part may be in force.
    """
    if spec.level not in _LEVELS:
        raise ValueError(f"isolation level {spec.level!r} is not one of {', '.join(_LEVELS)}")
    if spec.level == "none" or not architecture():
        return Applied([], [*_BASE, *landlock.LAYERS_BY_ABI, "seccomp"])
    _drop_privileges()
    version = landlock.abi()
    layers = [*_BASE]
    if version:
        layers += landlock.restrict_worker(spec, version)
    # Last, because it refuses what the steps before it need.
    layers += _filter(worker_rules(spec))
    wanted = [*landlock.LAYERS_BY_ABI, "seccomp"]
    return Applied(layers, [layer for layer in wanted if layer not in layers])


def scope_worker() -> list[str]:
    """Confines the signals of one worker to itself and its children.

    Does nothing and returns [] where Landlock ABI 6 is missing, and in a process that
    `apply_worker` left as it was (level "none").

    Called in each worker after its fork from the zygote, so that zygote, checker and daemon
    lie outside of what it can reach. Frozen copies inherit it and must not call it again:
    at most 16 layers stack.
    """
    if landlock.abi() < landlock.SCOPES_ABI or not prctl(PR_GET_NO_NEW_PRIVS):
        return []
    landlock.restrict_scopes()
    return ["own_signal_scope"]


def apply_daemon(kept: tuple[int, ...] = ()) -> list[str]:
    """Hardens the daemon and returns the layers; [] where system calls cannot be made by number.

    It keeps what a gRPC server on a unix socket and a supervisor need: sockets, signals to
    its children, memfd; and the capabilities `kept`, of those it has.
    """
    if not architecture():
        return []
    _drop_privileges(kept)
    layers = [layer for layer in _BASE if not (kept and layer == "no_capabilities")]
    return [*layers, *_filter(daemon_rules())]


def apply_checker() -> list[str]:
    """Hardens the process that parses source: a worker with no path to write and no socket."""
    spec = WorkerSpec(
        read_paths=(*SYSTEM_PATHS, *SYSTEM_FILES, *interpreter_paths()),
        write_paths=(),
        device_paths=("/dev/null", "/dev/urandom"),
    )
    return apply_worker(spec).layers


def _drop_privileges(kept: tuple[int, ...] = ()) -> None:
    capabilities.keep_only(kept)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)


def _filter(rules: Rules) -> list[str]:
    if not seccomp.available():
        return []
    seccomp.install(seccomp.compile_rules(rules, architecture()))
    return ["seccomp"]
