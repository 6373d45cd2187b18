"""Attacks of tenant code on everything around it, with the layers together, alone and off.

Each attack is run first under `bare` (no capability, but every call and file), where it has to
work, or else the machine lacks what is attacked and the test says so.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grotto_worker.harden import probe
from grotto_worker.harden.landlock import SCOPES_ABI
from grotto_worker.harden.syscalls import (
    CLONE_NEWUSER,
    architecture,
    call,
    call_number,
    prctl,
    unshare,
)

LIBC = ctypes.CDLL(None, use_errno=True)
EMPTY = ctypes.create_string_buffer(256)
AT = ctypes.addressof(EMPTY)


def pair() -> socket.socket:
    return socket.socketpair()[0]


def unmapped_child() -> int:
    """A child that waits to be looked at; it ends with its parent."""
    child = os.fork()
    if child == 0:
        prctl(1, signal.SIGKILL)
        signal.pause()
    return child


def read_a_childs_memory() -> None:
    child = unmapped_child()
    try:
        local, remote = (struct.pack("QQ", AT, 8) for _ in range(2))
        here, there = ctypes.create_string_buffer(local), ctypes.create_string_buffer(remote)
        call("process_vm_readv", child, ctypes.addressof(here), 1, ctypes.addressof(there), 1, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def trace_a_child() -> None:
    child = unmapped_child()
    try:
        call("ptrace", 16, child, 0, 0)  # PTRACE_ATTACH
    finally:
        os.kill(child, signal.SIGKILL)


def make_key() -> None:
    kind, name = ctypes.create_string_buffer(b"user"), ctypes.create_string_buffer(b"grotto-test")
    call("add_key", ctypes.addressof(kind), ctypes.addressof(name), ctypes.addressof(kind), 4, -1)


def make_shared_memory() -> None:
    segment = call("shmget", 0, 4096, 0o1600)
    call("shmctl", segment, 0, 0)  # IPC_RMID


def make_semaphore() -> None:
    call("semctl", call("semget", 0, 1, 0o1600), 0, 0, 0)


def make_message_queue() -> None:
    call("msgctl", call("msgget", 0, 0o1600), 0, 0)


def open_posix_queue() -> None:
    name = ctypes.create_string_buffer(b"grotto-test-%d" % os.getpid())
    call("mq_open", ctypes.addressof(name), os.O_CREAT | os.O_RDWR, 0o600, 0)
    call("mq_unlink", ctypes.addressof(name))


def count_own_events() -> None:
    exclude_kernel_and_hypervisor = 0x60
    attributes = struct.pack("=IIQQQQQ", 1, 112, 0, 0, 0, 0, exclude_kernel_and_hypervisor)
    buffer = ctypes.create_string_buffer(attributes, 112)
    os.close(call("perf_event_open", ctypes.addressof(buffer), 0, -1, -1, 0))


def run_foreign_code() -> int:
    """getpid by the 32-bit entry of an x86 kernel, from hand-made machine code."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    anything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    code = mmap.mmap(-1, 4096, flags=private, prot=anything)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


def get_descriptor_of_a_child() -> None:
    child = unmapped_child()
    try:
        os.close(call("pidfd_getfd", os.pidfd_open(child), 0, 0))
    finally:
        os.kill(child, signal.SIGKILL)


CALLS: dict[str, tuple[Callable[[], object], int]] = {
    # name: (attack, errno of the refusal)
    "kill everything": (lambda: os.kill(-1, 0), errno.EPERM),
    "own another's signals": (lambda: fcntl.fcntl(pair(), fcntl.F_SETOWN, 1), errno.EPERM),
    "choose the signal": (lambda: fcntl.fcntl(pair(), 10, signal.SIGTERM), errno.EPERM),
    "own by structure": (
        lambda: fcntl.fcntl(pair(), 15, struct.pack("ii", 1, os.getpid())),
        errno.EPERM,
    ),
    "own by ioctl": (lambda: fcntl.ioctl(pair(), 0x8901, struct.pack("i", 1)), errno.EPERM),
    "own by socket ioctl": (lambda: fcntl.ioctl(pair(), 0x8902, struct.pack("i", 1)), errno.EPERM),
    "become dumpable": (lambda: prctl(4, 1), errno.EPERM),
    "adopt orphans": (lambda: prctl(36, 1), errno.EPERM),
    "ptrace": (trace_a_child, errno.EPERM),
    "process_vm_readv": (read_a_childs_memory, errno.EPERM),
    "pidfd_getfd": (get_descriptor_of_a_child, errno.EPERM),
    "pidfd_send_signal": (
        lambda: signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0),
        errno.EPERM,
    ),
    "kcmp": (lambda: call("kcmp", os.getpid(), os.getpid(), 0, 0, 0), errno.EPERM),
    "move_pages": (lambda: call("move_pages", 0, 0, 0, 0, 0, 0), errno.EPERM),
    "own user namespace": (lambda: unshare(CLONE_NEWUSER), errno.EPERM),
    "own user namespace by clone": (
        lambda: call("clone", CLONE_NEWUSER | 17, 0, 0, 0, 0) or os._exit(0),
        errno.EPERM,
    ),
    "io_uring": (lambda: os.close(call("io_uring_setup", 1, AT)), errno.ENOSYS),
    "memfd_secret": (lambda: os.close(call("memfd_secret", 0)), errno.EPERM),
    "memfd": (lambda: os.close(os.memfd_create("x")), errno.EPERM),
    "userfaultfd": (lambda: os.close(call("userfaultfd", 1)), errno.EPERM),
    "perf": (count_own_events, errno.EPERM),
    "keyring": (make_key, errno.EPERM),
    "System V shared memory": (make_shared_memory, errno.EPERM),
    "System V semaphore": (make_semaphore, errno.EPERM),
    "System V queue": (make_message_queue, errno.EPERM),
    "POSIX queue": (open_posix_queue, errno.EPERM),
    "modify_ldt": (lambda: call("modify_ldt", 0, AT, 16), errno.EPERM),
    "inotify": (lambda: os.close(call("inotify_init1", 0)), errno.EPERM),
    "personality": (lambda: call("personality", 0x0040000), errno.EPERM),
    "shared anonymous memory": (lambda: mmap.mmap(-1, 4096).close(), errno.EPERM),
    "memory that grows down": (
        lambda: mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100).close(),
        errno.EPERM,
    ),
    "internet socket": (lambda: socket.socket(socket.AF_INET).close(), errno.EPERM),
    "MPTCP": (lambda: socket.socket(2, 1, 262).close(), errno.EPERM),
    "unix socket": (lambda: socket.socket(socket.AF_UNIX).close(), errno.EPERM),
    "netlink": (lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(), errno.EPERM),
    "vsock": (lambda: socket.socket(socket.AF_VSOCK).close(), errno.EPERM),
    "kernel crypto": (lambda: socket.socket(socket.AF_ALG, 5).close(), errno.EPERM),
    "datagram pair": (
        lambda: socket.socketpair(type=socket.SOCK_DGRAM)[0].close(),
        errno.EPERM,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_system_calls(forked: Any, arms: Any, name: str) -> None:
    """Refused by the filter alone and by all layers; possible without."""
    attack, refusal = CALLS[name]
    control = forked(attack, arms.bare)
    if not control.worked:
        pytest.skip(f"this machine itself refuses {name}: {control.text or control.signal}")
    alone = forked(attack, arms.only_seccomp)
    together = forked(attack, arms.worker)
    assert alone.errno == refusal, alone
    # What Landlock refuses first it may refuse with another errno.
    assert together.errno in (refusal, errno.EACCES), together


PATIENTS: dict[str, Callable[[int], object]] = {
    "lower a limit": lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (9, 9)),
    "read a limit": lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE),
    "renice": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 10),
    "renice the user": lambda pid: os.setpriority(os.PRIO_USER, os.getuid(), 0),
    "pin": lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(pid)),
    "reschedule": lambda pid: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)),
    "slow its disk": lambda pid: call("ioprio_set", 1, pid, 2 << 13 | 7),
}


@pytest.mark.parametrize("name", PATIENTS)
def test_other_processes_settings(forked: Any, arms: Any, bystander: int, name: str) -> None:
    """Landlock's scopes do not cover these; only the filter's look at the pid does."""
    attack = PATIENTS[name]

    def run() -> None:
        attack(bystander)

    control = forked(run, arms.bare)
    if not control.worked:
        pytest.skip(f"this machine itself refuses to {name}: {control.text}")
    assert forked(run, arms.only_landlock).worked
    assert forked(run, arms.only_seccomp).errno == errno.EPERM
    assert forked(run, arms.worker).errno == errno.EPERM


def test_ones_own_settings_stay_ones_own(forked: Any, arms: Any) -> None:
    def run() -> list[object]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        os.setpriority(os.PRIO_PROCESS, 0, 3)
        os.sched_setaffinity(0, os.sched_getaffinity(0))
        child = unmapped_child()
        os.kill(child, signal.SIGKILL)
        return [
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            os.waitstatus_to_exitcode(os.wait()[1]),
        ]

    assert forked(run, arms.worker).value == [64, -signal.SIGKILL]


@pytest.mark.parametrize("number", [0, signal.SIGURG], ids=["probe", "SIGURG"])
def test_signals_to_others(forked: Any, arms: Any, bystander: int, number: int) -> None:
    """The filter cannot know whom a pid belongs to; Landlock's scope does."""
    if probe().landlock_abi < SCOPES_ABI:
        pytest.skip(f"Landlock ABI {probe().landlock_abi} has no signal scopes (6 needed)")
    assert forked(lambda: os.kill(bystander, number), arms.bare).worked
    assert forked(lambda: os.kill(bystander, number), arms.only_seccomp).worked
    assert forked(lambda: os.kill(bystander, number), arms.only_landlock).errno == errno.EPERM
    assert forked(lambda: os.kill(bystander, number), arms.worker).errno == errno.EPERM


def test_a_worker_signals_its_children_but_not_the_zygote(forked: Any, arms: Any) -> None:
    """The scope put on in each worker is what lies between it and the process it came from."""
    if probe().landlock_abi < SCOPES_ABI:
        pytest.skip(f"Landlock ABI {probe().landlock_abi} has no signal scopes (6 needed)")
    from grotto_worker import harden

    def zygote(*, scoped: bool) -> list[bool]:
        me = os.getpid()

        def worker() -> list[bool]:
            child = unmapped_child()
            reached = []
            for pid, number in ((me, 0), (child, signal.SIGKILL)):
                with contextlib.suppress(PermissionError):
                    os.kill(pid, number)
                    reached.append(pid == me)
            return reached

        return forked(worker, *([harden.scope_worker] if scoped else [])).value  # type: ignore[no-any-return]

    def hardened() -> None:
        harden.apply_worker(arms.spec)

    assert forked(lambda: zygote(scoped=False), hardened).value == [True, False]
    assert forked(lambda: zygote(scoped=True), hardened).value == [False]


def spill(path: str) -> str:
    with open(path) as file:
        return file.read()


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    # name: (attack on a file outside, the layer that refuses it)
    "read": (lambda file: spill(str(file)), "landlock"),
    "write": (lambda file: file.write_text("gone"), "landlock"),
    "truncate": (lambda file: os.truncate(file, 0), "landlock"),
    "list": (lambda file: os.listdir(file.parent), "landlock"),
    "create": (lambda file: (file.parent / "new").write_text("x"), "landlock"),
    "delete": (lambda file: file.unlink(), "landlock"),
    "rename": (lambda file: file.rename(file.with_name("moved")), "landlock"),
    "link": (lambda file: os.link(file, file.with_name("linked")), "landlock"),
    "execute": (lambda file: os.execv(file, [str(file)]), "landlock"),
    # Landlock does not judge these: only the filter keeps them from the owner's other files.
    "open up": (lambda file: os.chmod(file, 0o777), "seccomp"),
    "shut": (lambda file: os.chmod(file.parent, 0), "seccomp"),
    "give away": (lambda file: os.chown(file, -1, os.getgid()), "seccomp"),
    "backdate": (lambda file: os.utime(file, (0, 0)), "seccomp"),
    "label": (lambda file: os.setxattr(file, "user.x", b"y"), "seccomp"),
    "watch": (lambda file: call("inotify_add_watch", call("inotify_init1", 0), AT, 2), "seccomp"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_outside(forked: Any, arms: Any, canary: Path, name: str) -> None:
    attack, layer = FILES[name]
    if name == "execute":
        canary.write_text("#!/bin/true\n")
        canary.chmod(0o755)
    if name == "watch":
        ctypes.memmove(AT, os.fsencode(canary) + b"\0", len(os.fsencode(canary)) + 1)

    def run() -> None:
        attack(canary)

    alone = {"landlock": arms.only_landlock, "seccomp": arms.only_seccomp}[layer]
    refusals = (errno.EACCES, errno.EPERM, errno.EXDEV)
    assert forked(run, alone).errno in refusals
    assert forked(run, arms.worker).errno in refusals
    assert canary.read_text() != "gone"
    assert canary.stat().st_size > 0
    if name == "execute":
        assert os.waitstatus_to_exitcode(os.system(str(canary))) == 0  # the control arm
    else:
        assert forked(run, arms.bare).worked


def test_other_processes_are_not_read(forked: Any, arms: Any, bystander: int) -> None:
    """Command lines, memory and descriptors; /proc is not among what a worker may read."""
    for name in ("cmdline", "status", "mem", "environ", "maps"):
        path = f"/proc/{bystander}/{name}"
        assert forked(lambda path=path: os.close(os.open(path, os.O_RDONLY)), arms.bare).worked
        assert forked(
            lambda path=path: os.close(os.open(path, os.O_RDONLY)), arms.only_landlock
        ).errno in (errno.EACCES, errno.EPERM)
    outcome = forked(lambda: os.close(os.open("/proc/1/mem", os.O_RDONLY)), arms.worker)
    assert outcome.errno == errno.EACCES


@pytest.mark.parametrize("system_file", ["interpreter", "system"])
def test_what_is_read_is_not_written(forked: Any, arms: Any, system_file: str) -> None:
    folder = sys.prefix if system_file == "interpreter" else "/usr"

    def create() -> None:
        path = os.path.join(folder, "grotto-planted")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)

    if not forked(create, arms.bare).worked:
        pytest.skip(f"{folder} cannot be written by this user in the first place")
    assert forked(create, arms.only_landlock).errno == errno.EACCES
    assert forked(create, arms.worker).errno == errno.EACCES


def connects(family: int, kind: int, address: Any, protocol: int = 0) -> Callable[[], None]:
    def run() -> None:
        with socket.socket(family, kind, protocol) as sock:
            if kind == socket.SOCK_DGRAM:
                sock.sendto(b"hello", address)
            else:
                sock.connect(address)

    return run


def test_path_sockets_outside(forked: Any, arms: Any, listener: Any, tmp_path: Path) -> None:
    """Landlock lets `connect` through, which is why there is no socket to connect with."""
    path = str(tmp_path / "s")
    listener(socket.AF_UNIX, socket.SOCK_STREAM, path)
    attack = connects(socket.AF_UNIX, socket.SOCK_STREAM, path)
    assert forked(attack, arms.bare).worked
    assert forked(attack, arms.only_landlock).worked
    assert forked(attack, arms.only_seccomp).errno == errno.EPERM
    assert forked(attack, arms.worker).errno == errno.EPERM


def test_a_datagram_pair_is_no_way_round(
    forked: Any, arms: Any, listener: Any, tmp_path: Path
) -> None:
    """One end of socketpair(AF_UNIX, SOCK_DGRAM) sends to any path: the system log, for one."""
    path = str(tmp_path / "log")
    inbox = listener(socket.AF_UNIX, socket.SOCK_DGRAM, path)
    inbox.setblocking(False)

    def attack() -> None:
        ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.sendto(b"forged", path)

    assert forked(attack, arms.bare).worked
    assert inbox.recv(10) == b"forged"
    assert forked(attack, arms.worker).errno == errno.EPERM
    with pytest.raises(BlockingIOError):
        inbox.recv(10)

    def by_stream() -> None:
        ours, _ = socket.socketpair()
        ours.connect(path)

    assert not forked(by_stream, arms.worker).worked


def test_abstract_sockets_outside(forked: Any, arms: Any, listener: Any) -> None:
    address = f"\0grotto-test-{os.getpid()}"
    listener(socket.AF_UNIX, socket.SOCK_STREAM, address)
    attack = connects(socket.AF_UNIX, socket.SOCK_STREAM, address)
    assert forked(attack, arms.bare).worked
    assert forked(attack, arms.only_seccomp).errno == errno.EPERM
    assert forked(attack, arms.worker).errno == errno.EPERM
    if probe().landlock_abi >= SCOPES_ABI:
        assert forked(attack, arms.only_landlock).errno == errno.EPERM


@pytest.mark.parametrize(
    ("kind", "protocol", "landlock_suffices"),
    [
        (socket.SOCK_STREAM, 0, True),
        (socket.SOCK_STREAM, 262, False),
        (socket.SOCK_DGRAM, 0, False),
    ],
    ids=["TCP", "MPTCP", "UDP"],
)
def test_the_loopback(
    forked: Any, arms: Any, listener: Any, kind: int, protocol: int, landlock_suffices: bool
) -> None:
    address = listener(socket.AF_INET, kind, ("127.0.0.1", 0)).getsockname()
    attack = connects(socket.AF_INET, kind, address, protocol)
    control = forked(attack, arms.bare)
    if not control.worked:
        pytest.skip(f"this machine itself refuses it: {control.text}")
    if probe().landlock_abi >= 4:
        assert forked(attack, arms.only_landlock).worked != landlock_suffices
    assert forked(attack, arms.only_seccomp).errno == errno.EPERM
    assert forked(attack, arms.worker).errno == errno.EPERM


def test_zero_device_is_no_shared_memory(forked: Any, arms: Any) -> None:
    """A shared mapping of /dev/zero is shared anonymous memory, which no rlimit counts."""

    def attack() -> None:
        with open("/dev/zero", "r+b", buffering=0) as zero:
            mmap.mmap(zero.fileno(), 4096).close()

    assert forked(attack, arms.bare).worked
    assert forked(attack, arms.only_seccomp).worked
    assert forked(attack, arms.only_landlock).errno == errno.EACCES
    assert forked(attack, arms.worker).errno == errno.EACCES


def test_foreign_system_calls_end_the_process(forked: Any, arms: Any) -> None:
    if architecture() != "x86_64":
        pytest.skip("only x86_64 has an x32 and a 32-bit entry")
    x32 = forked(lambda: call_number(0x4000_0000 | 39), arms.worker)
    assert x32.signal == signal.SIGSYS
    assert forked(lambda: call_number(0x4000_0000 | 39), arms.bare).signal is None
    control = forked(run_foreign_code, arms.bare)
    if not control.worked:
        pytest.skip("this kernel has no 32-bit entry")
    assert forked(run_foreign_code, arms.worker).signal == signal.SIGSYS


def test_a_hardened_process_cannot_be_read_by_its_own_user(forked: Any, arms: Any) -> None:
    """The daemon of the same uid: what keeps a worker from reading its memory is undumpability."""
    from grotto_worker import harden

    def attack(prepare: Callable[[], object]) -> None:
        read, write = os.pipe()
        daemon = os.fork()
        if daemon == 0:
            arms.bare()  # root's capabilities would protect it too
            prepare()
            os.write(write, b"\n")
            signal.pause()
        os.read(read, 1)
        arms.bare()
        try:
            for name in ("environ", "mem", "maps"):
                os.close(os.open(f"/proc/{daemon}/{name}", os.O_RDONLY))
        finally:
            os.kill(daemon, signal.SIGKILL)
            os.wait()

    assert forked(lambda: attack(lambda: None)).worked
    assert forked(lambda: attack(harden.apply_daemon)).errno in (errno.EACCES, errno.EPERM)


def test_setuid_programs_raise_nobody(forked: Any, arms: Any, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make the setuid program that is needed")
    program = tmp_path / "whoami"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)

    def attack() -> str:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return os.popen(f"{program} -u").read().strip()

    assert forked(attack).value == "0"

    def hardened() -> str:
        os.setresuid(65534, 65534, 65534)
        prctl(38, 1)
        return os.popen(f"{program} -u").read().strip()

    assert forked(hardened).value == "65534"


def test_capabilities_are_gone_for_good(forked: Any, arms: Any) -> None:
    """Also for root, and also across execve."""
    show = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status"
    from dataclasses import replace

    from grotto_worker import harden

    def sees_proc() -> None:
        harden.apply_worker(replace(arms.spec, read_paths=(*arms.spec.read_paths, "/proc")))

    fields = dict(
        line.split(":\t")
        for line in forked(lambda: os.popen(show).read(), sees_proc).value.splitlines()
    )
    assert fields.pop("NoNewPrivs") == "1"
    if os.geteuid() != 0:
        del fields[
            "CapBnd"
        ]  # only CAP_SETPCAP could empty it; without any capability it gives none
    assert {int(value, 16) for value in fields.values()} == {0}
    if os.geteuid() == 0:
        assert "CapEff:\t0000000000000000" not in forked(lambda: os.popen(show).read()).value


def test_no_worker_is_hardened_on_an_unknown_level(forked: Any, arms: Any) -> None:
    from dataclasses import replace

    from grotto_worker import harden

    with pytest.raises(ValueError, match="isolation level 'half'"):
        harden.apply_worker(replace(arms.spec, level="half"))
    missing = replace(arms.spec, write_paths=("/nonexistent/workspace",))
    assert forked(lambda: harden.apply_worker(missing) and None).errno == errno.ENOENT


def test_at_level_none_nothing_is_done_and_nothing_is_claimed(forked: Any, arms: Any) -> None:
    from dataclasses import replace

    from grotto_worker import harden

    def run() -> list[object]:
        applied = harden.apply_worker(replace(arms.spec, level="none"))
        return [applied.layers, harden.scope_worker(), prctl(39)]

    assert forked(run).value == [[], [], 0]
