"""Thin wrappers of the system calls that Python lacks. Mechanism only: no policy here.

Every wrapper raises OSError with the kernel's errno. Numbers come from `numbers`.
"""

import ctypes
import functools
import os
import sys

from grotto_worker.harden.numbers import ARCHITECTURES, number

CLONE_PARENT = 0x0000_8000
CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER = 28, 36
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_AT_RECURSIVE = 0x8000


def architecture() -> str:
    """Returns "x86_64", "aarch64", or "" where system calls cannot be made by number."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return ""
    machine = os.uname().machine
    return machine if machine in ARCHITECTURES else ""


@functools.cache
def _libc() -> ctypes.CDLL:
    # PyDLL keeps the interpreter lock during the call: a forked child must not have to take it.
    return ctypes.PyDLL(None, use_errno=True)


def call(name: str, *arguments: int) -> int:
    """Makes a system call by its name; every argument is passed as a 64-bit word."""
    nr = number(name, architecture())
    if nr is None:
        raise OSError(38, f"{name} does not exist on this architecture")
    return call_number(nr, *arguments)


def call_number(nr: int, *arguments: int) -> int:
    """Makes a system call by its number."""
    words = [ctypes.c_ulong(argument & 0xFFFF_FFFF_FFFF_FFFF) for argument in arguments]
    libc_syscall = _libc().syscall
    libc_syscall.restype = ctypes.c_long
    return _checked(libc_syscall(ctypes.c_long(nr), *words))


def _checked(result: int) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, *arguments: int) -> int:
    """Missing arguments are 0, as most options demand."""
    words = [*arguments, 0, 0, 0, 0][:4]
    return call("prctl", option, *words)


def unshare(flags: int) -> None:
    call("unshare", flags)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); strings are encoded as file names are."""
    arguments = [os.fsencode(text) for text in (source, target, kind)]
    options = os.fsencode(data) if data else None
    try:
        _checked(_libc().mount(*arguments, ctypes.c_ulong(flags), options))
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None


def set_mount_attributes(target: str, attributes: int, *, recursive: bool = False) -> None:
    """Adds attributes to a mount and keeps those it has (mount_setattr(2)).

    MOUNT_ATTR_RDONLY, NOSUID, NODEV and NOEXEC have the values of MS_*.
    """
    path = ctypes.create_string_buffer(os.fsencode(target))
    attr = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    at_fdcwd = -100
    call("mount_setattr", at_fdcwd, ctypes.addressof(path), flags, ctypes.addressof(attr), 32)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    path = ctypes.create_string_buffer(os.fsencode(target))
    call("umount2", ctypes.addressof(path), flags)


def pivot_root(new_root: str, put_old: str) -> None:
    new = ctypes.create_string_buffer(os.fsencode(new_root))
    old = ctypes.create_string_buffer(os.fsencode(put_old))
    call("pivot_root", ctypes.addressof(new), ctypes.addressof(old))


def fork_sibling() -> int:
    """Forks a child that belongs to the caller's parent; returns like fork(2).

    Only for a single-threaded caller whose child soon executes another program:
    the interpreter's own after-fork work does not run in the child.
    """
    sigchld = 17
    return call("clone", CLONE_PARENT | sigchld, 0, 0, 0, 0)
