"""What hostile tenant code tries in a container. Runs inside, as the source of one execution.

Every attack works or raises OSError, and leaves nothing behind, so that all of them can be tried
in one session. Only the standard library: this text is sent into the sandbox as it stands.
"""

import ctypes
import errno
import fcntl
import os
import resource
import socket
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine, 0)


def _call(numbers, *arguments):
    words = [ctypes.c_ulong(one & ((1 << 64) - 1)) for one in arguments]
    _LIBC.syscall.restype = ctypes.c_long
    result = _LIBC.syscall(ctypes.c_long(numbers[_COLUMN]), *words)
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def _trace(pid):
    ptrace = (101, 117)
    _call(ptrace, 0x4206, pid, 0, 0)  # PTRACE_SEIZE
    _call(ptrace, 0x4207, pid, 0, 0)  # PTRACE_INTERRUPT
    os.waitpid(pid, 0x40000000)  # __WALL
    _call(ptrace, 17, pid, 0, 0)  # PTRACE_DETACH


def _read_memory(pid):
    here = ctypes.create_string_buffer(8)
    ours = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(here), 8))
    theirs = ctypes.create_string_buffer(struct.pack("QQ", 4096, 8))
    try:
        _call((310, 270), pid, ctypes.addressof(ours), 1, ctypes.addressof(theirs), 1, 0)
    except OSError as error:
        if error.errno != errno.EFAULT:  # allowed, and nothing is mapped at that address
            raise


def _fetch_descriptor(pid):
    handle = os.pidfd_open(pid)
    try:
        os.close(_call((438, 438), handle, 0, 0))
    finally:
        os.close(handle)


def _signal_by_descriptor(pid):
    handle = os.pidfd_open(pid)
    try:
        _call((424, 424), handle, 0, 0, 0)
    finally:
        os.close(handle)


def _on_a_socket(command, value):
    one, other = socket.socketpair()
    with one, other:
        fcntl.fcntl(one, command, value)


def _reach(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def _displace(path):
    os.rename(path, path + "x")
    os.rename(path + "x", path)


def _shared_memory():
    number = _call((29, 194), 0, 4096, 0o1600)
    _call((31, 195), number, 0, 0)


def _read(path):
    with open(path, "rb") as file:
        file.read(64)


ON_A_PROCESS = {
    "kill": lambda pid: os.kill(pid, 0),
    "tgkill": lambda pid: _call((234, 131), pid, pid, 0),
    "pidfd_send_signal": _signal_by_descriptor,
    "rt_sigqueueinfo": lambda pid: _call((129, 138), pid, 0, ctypes.addressof(_SIGNAL_INFO)),
    "prlimit": lambda pid: resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0)),
    "look at limits": lambda pid: resource.prlimit(pid, resource.RLIMIT_CORE),
    "sched_setaffinity": lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(pid)),
    "sched_setscheduler": lambda pid: os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0)),
    "setpriority": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 0),
    "ioprio_set": lambda pid: _call((251, 30), 1, pid, 2 << 13 | 4),
    "F_SETOWN": lambda pid: _on_a_socket(8, pid),
    "read its command line": lambda pid: _read(f"/proc/{pid}/cmdline"),
    "ptrace": _trace,
    "process_vm_readv": _read_memory,
    "pidfd_getfd": _fetch_descriptor,
    "open its memory": lambda pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)),
    "read its environment": lambda pid: _read(f"/proc/{pid}/environ"),
    "list its descriptors": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "find its program": lambda pid: os.readlink(f"/proc/{pid}/exe"),
}
UNDUMPABLE = (*list(ON_A_PROCESS)[-7:],)
"""Those the kernel refuses for an undumpable process, whoever asks."""

ON_THE_SANDBOX = {
    "connect to the daemon": lambda: _reach("/run/grotto/r.sock"),
    "list the daemon's folder": lambda: os.listdir("/run/grotto"),
    "displace the daemon's socket": lambda: _displace("/run/grotto/r.sock"),
    "F_SETSIG": lambda: _on_a_socket(10, 9),
    "renice the whole user": lambda: os.setpriority(os.PRIO_USER, 0, 0),
    "memory that no process owns": _shared_memory,
    "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "a vsock socket": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close(),
    "list /sys": lambda: os.listdir("/sys/kernel"),
    "list the mounts": lambda: _read("/proc/self/mounts"),
    "list the devices": lambda: os.listdir("/dev"),
    "take orphans over": lambda: _call((157, 167), 36, 0, 0, 0, 0),
    "become dumpable": lambda: _call((157, 167), 4, 1, 0, 0, 0),
    "memory outside the limit": lambda: os.close(os.memfd_create("x")),
}

_SIGNAL_INFO = ctypes.create_string_buffer(struct.pack("iii", 0, 0, -1), 128)


def _attempt(attack, *arguments):
    try:
        attack(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "worked"


def everything(**targets):
    """Returns {"attack" or "attack > process": "worked" or the name of the error}."""
    found = {name: _attempt(attack) for name, attack in ON_THE_SANDBOX.items()}
    for target, pid in targets.items():
        for name, attack in ON_A_PROCESS.items():
            found[f"{name} > {target}"] = _attempt(attack, pid)
    return found
