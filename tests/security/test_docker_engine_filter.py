"""The engine's system call filter, alone: with strong capabilities, and nothing of ours inside.

Control arms: without a filter all of it works, and with the engine's own default filter and
capabilities what `LEFT_BY_DEFAULT` says. The container is the same in all of them.
"""

import json
import os
from collections.abc import Iterator

import pytest
from docker_engine import DockerEngine
from docker_worlds import BARE

from grotto_control.backends.docker.template import PYTHON, seccomp_profile

PROGRAM = """
import ctypes, errno, json, mmap, os, platform, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
def call(numbers, *arguments):
    if libc.syscall(numbers[COLUMN], *arguments) == -1:
        raise OSError(ctypes.get_errno(), "")
params = ctypes.create_string_buffer(256)
PAGE = ctypes.create_string_buffer(8192)
def forked(work):
    child = os.fork()
    if child == 0:
        try: work()
        except OSError as error: os._exit(error.errno)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status): raise OSError(1000 + os.WTERMSIG(status), "")
    if os.WEXITSTATUS(status): raise OSError(os.WEXITSTATUS(status), "")
def ia32():
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))  # getpid of i386
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    number = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    os._exit(0 if number == os.getpid() else 38)
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0)); one.sendto(b"x", one.getsockname())
ATTACKS = {
    "io_uring": lambda: call((425, 425), 1, params),
    "memfd_secret": lambda: call((447, 447), 0),
    "netlink": lambda: socket.socket(16, socket.SOCK_RAW, 0),
    "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
    "packet": lambda: socket.socket(17, socket.SOCK_RAW, 0),
    "udp": udp,
    "udp 6": lambda: socket.socket(10, socket.SOCK_DGRAM),
    "tcp": lambda: socket.socket(2, socket.SOCK_STREAM),
    "inotify": lambda: call((294, 26), 0),
    "fanotify": lambda: call((300, 262), 0, 0),
    "add_key": lambda: call((248, 217), b"user", b"x", b"y", 1, -3),
    "keyctl": lambda: call((250, 219), 0, -3, 1),
    "userfaultfd": lambda: call((323, 282), 1),
    "ptrace": lambda: forked(lambda: call((101, 117), 0, 0, 0, 0)),
    "process_vm_readv": lambda: call((310, 270), os.getpid(), 0, 0, 0, 0, 0),
    "kcmp": lambda: call((312, 272), os.getpid(), os.getpid(), 1, 0, 0),
    "pidfd_getfd": lambda: call((438, 438), os.pidfd_open(os.getpid()), 0, 0),
    "perf_event_open": lambda: call((298, 241), b"\\1\\0\\0\\0\\x80" + bytes(200), 0, -1, -1, 0),
    "shmget": lambda: call((29, 194), 0, 4096, 0o1600),
    "semget": lambda: call((64, 190), 0, 1, 0o1600),
    "msgget": lambda: call((68, 186), 0, 0o1600),
    "mq_open": lambda: call((240, 180), b"x", 0o102, 0o600, 0),
    "io_setup": lambda: call((206, 0), 1, ctypes.byref(ctypes.c_long())),
    "unshare": lambda: forked(lambda: call((272, 97), 0x10000000)),
    "clone into namespaces": lambda: forked(lambda: call((56, 220), 0x10000011, 0, 0, 0, 0)),
    "setns": lambda: forked(lambda: call((308, 268), os.pidfd_open(1), 0x20000)),
    "mount": lambda: forked(lambda: call((165, 40), b"x", b"/mnt", b"tmpfs", 0, 0)),
    "umount": lambda: forked(lambda: call((166, 39), b"/dev/shm", 2)),
    "fsopen": lambda: call((430, 430), b"tmpfs", 0),
    "open_by_handle_at": lambda: call((304, 265), -100, params, 0),
    "chroot": lambda: forked(lambda: call((161, 51), b"/mnt")),
    "swapoff": lambda: call((168, 225), b"/"),
    "quotactl": lambda: call((179, 60), 0x80000100, 0, 0, 0),
    "sethostname": lambda: call((170, 161), b"x", 1),
    "bpf": lambda: call((321, 280), 0, params, 72),
    "personality": lambda: forked(lambda: call((135, 92), 0x0040000)),
    "remap_file_pages": lambda: call((216, 234), PAGE, 0, 0, 0, 0),
    "move_pages": lambda: call((279, 239), 0, 0, 0, 0, 0, 0),
    "rt_sigqueueinfo": lambda: call((129, 138), os.getpid(), 0, params),
    "vmsplice": lambda: call((278, 75), os.pipe()[1], 0, 0, 0),
    "ia32": lambda: forked(ia32),
}
def attempt(attack):
    try:
        attack()
    except OSError as error:
        return error.errno
    return 0
print(json.dumps({name: attempt(attack) for name, attack in ATTACKS.items()}))
"""
EPERM, ENOSYS = 1, 38
KILLED = 1000 + 31
MAY_BE_ABSENT = ("memfd_secret", "io_uring", "userfaultfd", "vsock", "fsopen", "kcmp", "ia32")
PASSED = {
    # What the call itself says of senseless arguments, once no filter stops it.
    "open_by_handle_at": {9, 22, 116}, "swapoff": {21, 22}, "quotactl": {2, 14, 15, 22},
    "bpf": {0, 7, 22}, "remap_file_pages": {22},
    "rt_sigqueueinfo": {0, 14, 22}, "setns": {22}, "perf_event_open": {2, 7, 13, 22},
    "mq_open": {24}, "process_vm_readv": {22}, "keyctl": {0, 126},
}  # fmt: skip
LEFT_BY_DEFAULT = ("memfd_secret", "netlink", "udp", "udp 6", "tcp", "inotify", "packet", "ia32")
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "NET_RAW", "DAC_READ_SEARCH", "SYS_CHROOT")
"""So that it is not their lack that refuses an attack."""


@pytest.fixture(scope="module")
def outcomes(
    docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, int]]]:
    """The errno of every attack, by arm; 0 where it worked."""
    profile = tmp_path_factory.mktemp("profile") / "ours.json"
    profile.write_text(seccomp_profile())
    strong = [word for name in CAPABILITIES for word in ("--cap-add", name)]
    strong += ["--security-opt", "apparmor=unconfined", "--security-opt"]
    arms = {
        "ours": [*strong, f"seccomp={profile}"],
        "none": [*strong, "seccomp=unconfined"],
        "default": [],
    }
    run = ["run", "--rm", "--network", "none", "--user", "0:0", "--ulimit", "core=0"]
    program = ["--entrypoint", PYTHON, BARE["bare"], "-I", "-c", PROGRAM]
    yield {
        arm: json.loads(docker_engine.docker(*run, *options, *program))
        for arm, options in arms.items()
    }


def has_worked(attack: str, said: int) -> bool:
    return said == 0 or said in PASSED.get(attack, ())


def test_every_attack_is_refused_by_our_filter(outcomes: dict[str, dict[str, int]]) -> None:
    machine = os.uname().machine
    refusals = {EPERM, KILLED} if machine == "x86_64" else {EPERM, ENOSYS, KILLED}
    let_through = {name: said for name, said in outcomes["ours"].items() if said not in refusals}
    assert let_through == {}


def test_without_a_filter_they_work(outcomes: dict[str, dict[str, int]]) -> None:
    """The kernel may lack one or the other; none of them is refused as by a filter."""
    failed = {name: said for name, said in outcomes["none"].items() if not has_worked(name, said)}
    assert failed.items() <= {(name, ENOSYS) for name in MAY_BE_ABSENT}


@pytest.mark.parametrize("attack", LEFT_BY_DEFAULT)
def test_the_engines_own_filter_leaves_them_open(
    attack: str, outcomes: dict[str, dict[str, int]]
) -> None:
    assert has_worked(attack, outcomes["default"][attack])
