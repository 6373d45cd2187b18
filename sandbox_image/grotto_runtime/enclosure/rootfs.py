"""The root file system of a sandbox: an empty tmpfs with read-only binds of what Python needs.

Runs as PID 1 of new namespaces with their capabilities. The finished root is read-only; only
the scratch space can be written, and it has one size and inode limit for all of it.
"""

import os

from grotto_runtime.enclosure.namespaces import INNER_ID
from grotto_worker.harden import DEVICE_PATHS, SYSTEM_FILES, SYSTEM_PATHS
from grotto_worker.harden.syscalls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    mount,
    pivot_root,
    set_mount_attributes,
    unmount,
)

WORKSPACE, TEMPORARY, RUN = "/workspace", "/tmp", "/run/grotto"  # noqa: S108  (inside)

_OUTSIDE = "/.outside"
_SCRATCH = "/.scratch"
_SAFE = MS_NOSUID | MS_NODEV
_MIN_INODES = 16

_ETC = {
    "passwd": (
        "root:x:0:0:root:/:/usr/sbin/nologin\n"
        f"sandbox:x:{INNER_ID}:{INNER_ID}:sandbox:{WORKSPACE}:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    ),
    "group": f"root:x:0:\nsandbox:x:{INNER_ID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def build(read_paths: tuple[str, ...], run_dir: str, disk_bytes: int, inodes: int) -> None:
    """Builds the root and moves into it; the old one is gone afterwards.

    Args:
        read_paths: absolute folders that appear read-only under the same names.
        run_dir: the folder that appears as /run/grotto.
        disk_bytes: size of /workspace and /tmp together.
        inodes: their number of files.

    Raises:
        OSError: with the path that could not be made.
    """
    # Links are followed while the old root is still there to follow them in.
    sources = {path: os.path.realpath(path) for path in (*read_paths, run_dir)}
    links = {path: os.readlink(path) for path in SYSTEM_PATHS if os.path.islink(path)}
    os.umask(0o022)
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    _move_into_empty_root()
    for path, target in links.items():
        os.symlink(target, path)
    _bind_system(skip=set(links))
    _write_etc()
    _make_devices()
    os.mkdir("/proc")
    mount("proc", "/proc", "proc", _SAFE | MS_NOEXEC)
    _make_scratch(disk_bytes, inodes)
    _bind(sources[run_dir], RUN, _SAFE | MS_NOEXEC)
    # Last, because the interpreter may itself lie below /tmp or /workspace.
    for path in read_paths:
        if not _is_below(path, SYSTEM_PATHS):
            _bind(sources[path], path, _SAFE | MS_RDONLY)
    unmount(_OUTSIDE)
    os.rmdir(_OUTSIDE)
    set_mount_attributes("/", MS_RDONLY)
    os.chdir(WORKSPACE)
    os.umask(0o077)


def _move_into_empty_root() -> None:
    # /usr is only a folder that surely exists; in the tree of the old root it is uncovered again.
    mount("tmpfs", "/usr", "tmpfs", _SAFE, "size=4m,nr_inodes=2048,mode=0755")
    os.mkdir("/usr" + _OUTSIDE)
    pivot_root("/usr", "/usr" + _OUTSIDE)
    os.chdir("/")


def _bind_system(skip: set[str]) -> None:
    for path in (*SYSTEM_PATHS, *SYSTEM_FILES):
        if path not in skip and os.path.exists(_OUTSIDE + path):
            _bind(path, path, _SAFE | MS_RDONLY)


def _bind(source: str, target: str, attributes: int) -> None:
    """Binds a path of the old root, with what is mounted below it; attributes are only added."""
    source = _OUTSIDE + source
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    try:
        mount(source, target, "", MS_BIND | MS_REC)
        set_mount_attributes(target, attributes, recursive=True)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot show it in the sandbox: {error.strerror}", target
        ) from None


def _write_etc() -> None:
    os.makedirs("/etc", exist_ok=True)
    for name, text in _ETC.items():
        with open(f"/etc/{name}", "w") as file:
            file.write(text)


def _make_devices() -> None:
    for path in DEVICE_PATHS:
        _bind(path, path, MS_RDONLY | MS_NOSUID | MS_NOEXEC)
    os.symlink("/proc/self/fd", "/dev/fd")
    # POSIX semaphores and shared memory count against the scratch space like files.
    os.symlink(TEMPORARY, "/dev/shm")  # noqa: S108


def _make_scratch(disk_bytes: int, inodes: int) -> None:
    options = f"size={disk_bytes},nr_inodes={max(inodes, _MIN_INODES)},mode=0755"
    os.mkdir(_SCRATCH)
    mount("tmpfs", _SCRATCH, "tmpfs", _SAFE, options)
    for target in (WORKSPACE, TEMPORARY):
        os.mkdir(_SCRATCH + target, 0o700)
        os.chown(_SCRATCH + target, INNER_ID, INNER_ID)
        os.mkdir(target)
        mount(_SCRATCH + target, target, "", MS_BIND)
    unmount(_SCRATCH)
    os.rmdir(_SCRATCH)


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == one or path.startswith(one + "/") for one in folders)
