"""The one shape a sandbox container has, as the body of the engine's create call. Pure.

Whatever varies is in `ContainerSpec`; everything else is fixed here and nowhere else, so
that the engine proxy can hold each request against it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from grotto_control.model.limits import KIB, MIB, Limits

RUN_DIR, WORKSPACE, TEMPORARY = "/run/grotto", "/workspace", "/tmp"  # noqa: S108  (inside)
PREFIX = "dev.grotto."
SERVER_LABEL, SANDBOX_LABEL, SEAL_LABEL = f"{PREFIX}server", f"{PREFIX}sandbox", f"{PREFIX}seal"
PYTHON = "/opt/grotto/bin/python"
ENVIRONMENT = ("PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8")

FIRST_UID = 2_080_000_000
"""Above what `local` uses and far from what distributions and directories hand out."""
LAST_UID = 2**31 - 2
TEMPORARY_BYTES = 64 * MIB
SHARED_MEMORY_BYTES = 16 * MIB
DAEMON_BYTES = 256 * MIB
"""Room for daemon, checker and zygote, which tenants cannot use."""
DAEMON_PIDS = 64
BYTES_PER_INODE = 4096
MIN_INODES = 1024
CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1000

_OOM_SCORE = 500
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/interrupts", "/proc/kallsyms",
    "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kpagecgroup", "/proc/kpagecount",
    "/proc/kpageflags", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo", "/sys/devices/virtual/powercap",
    "/sys/firmware", "/sys/fs/cgroup", "/sys/kernel",
)  # fmt: skip
_READ_ONLY = ("/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the engine holds a container to; can be changed while it runs."""

    memory_bytes: int
    cpu_quota_us: int
    """Of each `CPU_PERIOD_US`."""
    pids: int


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything of a sandbox container that is not the same for all."""

    sandbox_id: str
    image_id: str
    """By content, as in `sha256:…`."""
    image_env: tuple[str, ...]
    """Names of the image's environment variables, all of which are unset."""
    runtime: str
    """Of the engine; "" for its default."""
    daemon_uid: int
    worker_uid: int | None
    """None: no capability may be had, and the daemon shares its uid (control B)."""
    socket_gid: int
    """May reach the daemon's socket from outside: the control plane's group."""
    disk_bytes: int
    resources: Resources
    labels: Mapping[str, str]


def resources_for(limits: Limits, disk_bytes: int) -> Resources:
    """Returns the container's hard limits for a session's limits.

    Memory is the session's own, as much again in reserve for recovery points, whose pages
    count twice once they are written to, every file system in memory, and the daemon's.
    """
    files = disk_bytes + min(disk_bytes, TEMPORARY_BYTES) + SHARED_MEMORY_BYTES
    return Resources(
        memory_bytes=2 * limits.memory_bytes + files + DAEMON_BYTES,
        cpu_quota_us=max(MIN_CPU_QUOTA_US, math.ceil(limits.cpus * CPU_PERIOD_US)),
        pids=limits.pids + DAEMON_PIDS,
    )


def container_name(sandbox_id: str) -> str:
    return f"grotto-{sandbox_id}"


def create_body(spec: ContainerSpec) -> dict[str, Any]:
    """Returns the JSON body of `POST /containers/create`."""
    apart = spec.worker_uid is not None
    return {
        "Image": spec.image_id,
        "User": "0:0" if apart else f"{spec.daemon_uid}:{spec.daemon_uid}",
        "Hostname": "sandbox",
        "Domainname": "",
        "WorkingDir": "/",
        "Env": [*ENVIRONMENT, *sorted(set(spec.image_env) - _own_names())],
        "Entrypoint": [PYTHON],
        "Cmd": _command(spec),
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": dict(spec.labels),
        "NetworkDisabled": True,
        "OpenStdin": False,
        "Tty": False,
        "StopSignal": "SIGKILL",
        "HostConfig": _host_config(spec),
    }


def update_body(resources: Resources) -> dict[str, Any]:
    """Returns the JSON body of `POST /containers/{id}/update`."""
    return {
        "Memory": resources.memory_bytes,
        "MemorySwap": resources.memory_bytes,  # the sum of both: no swap
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": resources.cpu_quota_us,
        "PidsLimit": resources.pids,
    }


@cache
def seccomp_profile() -> str:
    """Returns the engine's system call filter for sandboxes, as compact JSON."""
    text = files(__package__).joinpath("seccomp.json").read_text()
    return json.dumps(json.loads(text), separators=(",", ":"))


def _own_names() -> set[str]:
    """An entry without "=" takes the image's variable away."""
    return {entry.partition("=")[0] for entry in ENVIRONMENT}


def _command(spec: ContainerSpec) -> list[str]:
    command = ["-I", "-m", "grotto_runtime", "container", "--daemon-uid", str(spec.daemon_uid)]
    if spec.worker_uid is not None:
        command += ["--worker-uid", str(spec.worker_uid)]
    return command


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    return {
        **update_body(spec.resources),
        # It would end living sandboxes at a restart of the engine (moby issue 46308).
        "AutoRemove": False,
        "CapAdd": ["KILL", "SETGID", "SETUID"] if spec.worker_uid is not None else [],
        "CapDrop": ["ALL"],
        "CgroupnsMode": "private",
        "IpcMode": "private",
        "Init": False,
        "LogConfig": {"Type": "none", "Config": {}},
        "MaskedPaths": list(_MASKED),
        "Mounts": [_socket_volume(spec)],
        "NetworkMode": "none",
        "OomScoreAdj": _OOM_SCORE,
        "Privileged": False,
        "ReadonlyPaths": list(_READ_ONLY),
        "ReadonlyRootfs": True,
        "RestartPolicy": {"Name": "no"},
        "Runtime": spec.runtime,
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile()}"],
        "ShmSize": SHARED_MEMORY_BYTES,
        "Tmpfs": _scratch(spec),
        "Ulimits": _ulimits(),
    }


def _socket_volume(spec: ContainerSpec) -> dict[str, Any]:
    """A file system of its own: what a sandbox does to it, it does to itself alone."""
    options = (
        f"size={64 * KIB},nr_inodes=8,nosuid,nodev,noexec,mode=2770,"
        f"uid={spec.daemon_uid},gid={spec.socket_gid}"
    )
    return {
        "Type": "volume",
        "Target": RUN_DIR,
        "VolumeOptions": {
            "NoCopy": True,
            "Labels": dict(spec.labels),
            "DriverConfig": {
                "Name": "local",
                "Options": {"type": "tmpfs", "device": "tmpfs", "o": options},
            },
        },
    }


def _scratch(spec: ContainerSpec) -> dict[str, str]:
    owner = spec.daemon_uid if spec.worker_uid is None else spec.worker_uid
    return {
        path: f"size={size},nr_inodes={max(MIN_INODES, size // BYTES_PER_INODE)},"
        f"uid={owner},gid={owner},mode=2770,nosuid,nodev"
        for path, size in (
            (WORKSPACE, spec.disk_bytes),
            (TEMPORARY, min(spec.disk_bytes, TEMPORARY_BYTES)),
        )
    }


def _ulimits() -> list[dict[str, Any]]:
    # Not 0: that would still start a core handler behind a pipe, and 1 stops both (core(5)).
    fixed = {"core": 1, "memlock": 64 * KIB, "msgqueue": 0, "nofile": 4096, "rtprio": 0}
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in fixed.items()]
