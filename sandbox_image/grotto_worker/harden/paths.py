"""What a hardened worker may touch: the specification and the system's own part of it."""

from dataclasses import dataclass

SYSTEM_PATHS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Folders of the system that programs and shared libraries are read from."""

SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/mime.types")
"""The few entries of the system's configuration that programs need and that tell nothing."""

DEVICE_PATHS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True)
class WorkerSpec:
    """What the zygote, and by inheritance every worker, is left with."""

    read_paths: tuple[str, ...]
    """Files and folders to read and execute; one that does not exist is passed over."""
    write_paths: tuple[str, ...]
    """Folders to read, write and execute in; each must exist."""
    device_paths: tuple[str, ...] = DEVICE_PATHS
    """Device files to read and write."""
    allow_sockets: bool = False
    """True only in an empty network namespace: TCP and UDP sockets exist, and reach nothing."""
    deny_memfd: bool = True
    """Refuses memfd_create: memory that RLIMIT_DATA does not count."""
    deny_shared_anonymous: bool = True
    """Refuses shared anonymous, /dev/zero and grows-down mappings, for the same reason."""
    level: str = "reduced"
    """"full", "reduced", "container" or "none". At "reduced", where the worker has the uid of
    its owner's own files, changes of mode, owner, times and attributes are refused as well,
    because Landlock does not judge them."""
