"""Level "full" attacked from inside, by a process that has nothing but the walls around it.

The attacker is an inner process that has not hardened itself: neither Landlock nor seccomp.
"""

import errno
import inspect
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grotto_runtime.enclosure import Entered
from grotto_worker import harden
from grotto_worker.harden.syscalls import call

RESULT_FD = 9
HARDEN = """
from grotto_worker import harden
harden.apply_worker(harden.WorkerSpec({read!r}, {write!r}, allow_sockets=True, level="full"))
harden.scope_worker()
"""
CALL = """
import json, os
try:
    said = {{"value": {name}(*{arguments!r})}}
except OSError as error:
    said = {{"errno": error.errno, "text": str(error)}}
os.write({result_fd}, json.dumps(said).encode())
"""


def program(attack: Callable[..., object], arguments: tuple[Any, ...], prepare: str = "") -> str:
    """The source of an attack that runs in an interpreter of its own; it imports what it needs."""
    tail = CALL.format(name=attack.__name__, arguments=arguments, result_fd=RESULT_FD)
    return SOURCES[attack.__name__] + prepare + tail


def outside(attack: Callable[..., object], *arguments: Any) -> dict[str, Any]:
    """The control arm: the same program without any walls."""
    read, write = os.pipe()
    code = program(attack, arguments).replace(f"os.write({RESULT_FD},", f"os.write({write},")
    subprocess.run([sys.executable, "-I", "-c", code], pass_fds=[write], check=True)
    os.close(write)
    with open(read, "rb") as pipe:
        return dict(json.loads(pipe.read()))


def inner(
    entered: Entered, attack: Callable[..., object], *arguments: Any, hardened: bool = False
) -> dict[str, Any]:
    """The same program as an inner process of a sandbox."""
    prepare = HARDEN.format(read=entered.read_paths, write=entered.write_paths) if hardened else ""
    read, write = os.pipe()
    code = program(attack, arguments, prepare)
    pid = entered.spawn_inner([sys.executable, "-I", "-c", code], {RESULT_FD: write})
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(pid, 0)[1]
    return dict(json.loads(said)) if said else {"died": status}


def read_file(path: str) -> str:
    with open(path) as file:
        return file.read()


def list_folder(path: str) -> list[str]:
    import os

    return os.listdir(path)


def write_file(path: str) -> None:
    with open(path, "w") as file:
        file.write("planted")


def signal_process(pid: int, number: int) -> None:
    import os

    os.kill(pid, number)


def limit_process(pid: int) -> None:
    import resource

    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def reach(family: int, kind: int, address: "tuple[object] | str", protocol: int = 0) -> None:
    import socket

    if isinstance(address, list):
        address = tuple(address)
    with socket.socket(family, kind, protocol) as sock:
        if kind == socket.SOCK_DGRAM:
            sock.sendto(b"hello", address)
        else:
            sock.connect(address)


def attach_segment(segment: int) -> None:
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(512)
    if libc.shmctl(segment, 2, buffer) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def own_namespace(flag: int) -> None:
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flag) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount_over(path: str) -> None:
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# Read now: from inside an enclosure this file does not exist.
SOURCES = {
    attack.__name__: inspect.getsource(attack)
    for attack in (
        read_file,
        list_folder,
        write_file,
        signal_process,
        limit_process,
        reach,
        attach_segment,
        own_namespace,
        mount_over,
    )
}


def test_the_owners_files_do_not_exist_inside(enclosures: Any, canary: Path) -> None:
    assert outside(read_file, str(canary))["value"] == "canary"
    said = enclosures.run(lambda e: inner(e, read_file, str(canary))).value
    assert said["errno"] == errno.ENOENT


def test_only_what_python_needs_is_there(enclosures: Any) -> None:
    allowed = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "dev", "proc"}
    allowed |= {"run", "tmp", "workspace"}
    allowed |= {path.split("/")[1] for path in harden.interpreter_paths()}
    said = enclosures.run(lambda e: inner(e, list_folder, "/")).value
    assert set(said["value"]) <= allowed
    etc = enclosures.run(lambda e: inner(e, list_folder, "/etc")).value["value"]
    assert {"shadow", "ssh", "ssl"}.isdisjoint(etc)


@pytest.mark.parametrize(
    "folder", ["/usr", "/etc", "/", "/dev", sys.prefix, os.path.dirname(os.__file__)]
)
def test_what_is_there_is_read_only(enclosures: Any, folder: str) -> None:
    path = os.path.join(folder, "planted")

    def attack(entered: Entered) -> object:
        # As PID 1 itself, whose uid owns what the owner of the machine's account owns.
        return inner(entered, write_file, path)

    assert enclosures.run(attack).value["errno"] in (errno.EROFS, errno.EACCES)
    assert not os.path.exists(path)
    assert enclosures.run(lambda e: inner(e, write_file, "/workspace/x")).value["value"] is None


def test_the_workspace_is_limited_in_bytes_and_files(enclosures: Any) -> None:
    def fill(entered: Entered) -> list[int]:
        written = 0
        try:
            with open("/workspace/big", "wb", buffering=0) as file:
                while True:
                    written += file.write(b"x" * 65536)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        os.unlink("/workspace/big")
        files = 0
        try:
            while True:
                # Both folders draw on the same account.
                os.close(os.open(f"/{'tmp' if files % 2 else 'workspace'}/{files}", os.O_CREAT))
                files += 1
        except OSError as error:
            assert error.errno == errno.ENOSPC
        return [written, files]

    written, files = enclosures.run(fill, disk_bytes=1 << 20, inodes=64).value
    assert 0 < written <= 1 << 20
    assert 0 < files <= 64


def test_processes_outside_are_not_there(enclosures: Any, bystander: int) -> None:
    assert outside(signal_process, bystander, 0)["value"] is None
    for attack, arguments in ((signal_process, (bystander, 0)), (limit_process, (bystander,))):
        said = enclosures.run(lambda e, a=attack, args=arguments: inner(e, a, *args)).value
        assert said["errno"] == errno.ESRCH
    assert enclosures.run(lambda e: inner(e, list_folder, "/proc")).value["value"] == []


def test_the_daemon_is_within_reach_of_all_but_the_filter(enclosures: Any) -> None:
    """One uid inside: without list B an inner process lowers the daemon's limits and signals it."""
    for attack, arguments in (
        (limit_process, (1,)),
        (signal_process, (1, 0)),
        (signal_process, (-1, 0)),
    ):
        control = enclosures.run(lambda e, a=attack, args=arguments: inner(e, a, *args)).value
        assert control.get("value", "refused") is None
        said = enclosures.run(
            lambda e, a=attack, args=arguments: inner(e, a, *args, hardened=True)
        ).value
        assert said["errno"] == errno.EPERM


def test_sockets_outside_are_out_of_reach(enclosures: Any, listener: Any, tmp_path: Path) -> None:
    stream, dgram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    path, abstract = str(tmp_path / "s"), f"\0grotto-wall-{os.getpid()}"
    listener(socket.AF_UNIX, stream, path)
    listener(socket.AF_UNIX, stream, abstract)
    tcp = listener(socket.AF_INET, stream, ("127.0.0.1", 0)).getsockname()
    udp = listener(socket.AF_INET, dgram, ("127.0.0.1", 0)).getsockname()
    attacks: list[tuple[Any, ...]] = [
        (int(socket.AF_UNIX), int(stream), path),
        (int(socket.AF_UNIX), int(stream), abstract),
        (int(socket.AF_INET), int(stream), list(tcp)),
        (int(socket.AF_INET), int(dgram), list(udp)),
        (int(socket.AF_INET), int(stream), list(tcp), 262),
    ]
    for arguments in attacks:
        control = outside(reach, *arguments)
        if "errno" in control:
            assert arguments[-1] == 262, control  # a machine may have no MPTCP, but must have these
        said = enclosures.run(lambda e, args=arguments: inner(e, reach, *args)).value
        assert said["errno"] in (errno.ENOENT, errno.ECONNREFUSED, errno.ENETUNREACH), arguments


def test_shared_memory_outside_is_out_of_reach(enclosures: Any) -> None:
    segment = call("shmget", 0, 4096, 0o1666)
    try:
        assert outside(attach_segment, segment)["value"] is None
        said = enclosures.run(lambda e: inner(e, attach_segment, segment)).value
        assert said["errno"] in (errno.EINVAL, errno.EIDRM)
    finally:
        call("shmctl", segment, 0, 0)


NEW_USER = 0x1000_0000


def test_no_namespaces_within_namespaces(enclosures: Any) -> None:
    """The kernel itself counts them to zero, so it does not hang on the filter alone."""
    assert outside(own_namespace, NEW_USER)["value"] is None
    said = enclosures.run(lambda e: inner(e, own_namespace, NEW_USER)).value
    assert said["errno"] == errno.ENOSPC


def test_mounts_cannot_be_changed(enclosures: Any) -> None:
    for path in ("/usr", "/workspace", "/proc"):
        said = enclosures.run(lambda e, p=path: inner(e, mount_over, p)).value
        assert said["errno"] == errno.EPERM


def test_the_daemons_socket_folder_is_not_in_the_inner_processes_view(enclosures: Any) -> None:
    def look(entered: Entered) -> list[object]:
        with open("/run/grotto/r.sock", "w"):
            pass
        return [os.listdir(entered.run_dir), inner(entered, list_folder, "/run/grotto")]

    assert enclosures.run(look).value == [["r.sock"], {"value": []}]
    assert (enclosures.folder / "run" / "r.sock").exists()


def test_everybody_inside_is_an_ordinary_user_without_capabilities(enclosures: Any) -> None:
    def look(entered: Entered) -> dict[str, str]:
        with open("/proc/self/status") as status:
            fields = dict(line.split(":\t", 1) for line in status.read().splitlines())
        return {
            name: fields[name] for name in ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd")
        }

    fields = enclosures.run(look).value
    assert fields["Uid"].split() == ["1000"] * 4
    assert fields["Gid"].split() == ["1000"] * 4
    assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {0}

    def become_root(entered: Entered) -> None:
        os.setuid(0)

    assert enclosures.run(become_root).errno in (errno.EPERM, errno.EINVAL)


def test_files_made_inside_belong_to_the_sandboxs_uid_outside(enclosures: Any) -> None:
    def make(entered: Entered) -> None:
        with open("/run/grotto/mine", "w"):
            pass

    assert enclosures.run(make).worked
    uid = (enclosures.folder / "run" / "mine").stat().st_uid
    assert uid == (enclosures.folder / "run").stat().st_uid
    assert uid != 0


def test_set_user_id_and_devices_are_off_on_every_mount(enclosures: Any) -> None:
    def look(entered: Entered) -> list[str]:
        folders = ["/", "/usr", "/workspace", "/tmp", "/run/grotto", sys.prefix]
        wanted = os.ST_NOSUID | os.ST_NODEV
        return [path for path in folders if os.statvfs(path).f_flag & wanted != wanted]

    assert enclosures.run(look).value == []


def test_inotify_cannot_use_up_the_owners_share(enclosures: Any) -> None:
    def exhaust(entered: Entered) -> int:
        made = 0
        try:
            while made < 100:
                call("inotify_init1", 0)
                made += 1
        except OSError as error:
            assert error.errno == errno.EMFILE
        return made

    assert enclosures.run(exhaust).value <= 16
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 100


def test_devices_work_and_there_are_no_others(enclosures: Any) -> None:
    def look(entered: Entered) -> list[object]:
        with open("/dev/null", "w") as null:
            null.write("x")
        with open("/dev/urandom", "rb") as random:
            size = len(random.read(16))
        return [size, sorted(os.listdir("/dev"))]

    size, names = enclosures.run(look).value
    assert size == 16
    assert set(names) == {"fd", "full", "null", "random", "shm", "urandom", "zero"}


def test_semaphores_and_shared_memory_files_draw_on_the_workspaces_account(enclosures: Any) -> None:
    def use(entered: Entered) -> str:
        import multiprocessing

        lock = multiprocessing.get_context("fork").Lock()
        return "taken" if lock.acquire() else ""

    assert enclosures.run(use).value == "taken"
