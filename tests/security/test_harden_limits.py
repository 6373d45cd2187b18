"""The resource limits of a worker, each hit, each with the same thing done without it."""

import mmap
import os
import resource
import signal
import threading
from typing import Any

import pytest

from grotto_worker.harden import limit_worker, limits

MIB = 1 << 20


def limited(**changes: Any) -> Any:
    settings: dict[str, Any] = {"memory_bytes": 64 * MIB, "pids": None, "cpus": 1.0}
    return lambda: limit_worker(**(settings | changes))


def allocate(size: int) -> bool:
    try:
        return len(bytearray(size)) == size
    except MemoryError:
        return False


def test_memory_is_limited_on_top_of_what_is_held(forked: Any) -> None:
    ballast = bytearray(100 * MIB)
    assert forked(lambda: allocate(96 * MIB)).value is True
    assert forked(lambda: allocate(96 * MIB), limited()).value is False
    assert forked(lambda: allocate(48 * MIB), limited()).value is True
    del ballast


def test_memory_that_the_limit_does_not_count_is_refused(forked: Any, arms: Any) -> None:
    """The limit alone lets shared anonymous memory pass: the filter has to refuse it."""

    def share() -> int:
        with mmap.mmap(-1, 96 * MIB) as memory:
            memory[:: mmap.PAGESIZE] = b"x" * (96 * MIB // mmap.PAGESIZE)
            return len(memory)

    assert forked(share, limited()).value == 96 * MIB
    assert forked(share, arms.only_seccomp, limited()).errno == 1


def test_what_is_held_is_found_without_proc(forked: Any, arms: Any) -> None:
    with open("/proc/self/status") as status:
        held = int(status.read().split("VmData:")[1].split()[0]) * 1024
    found = forked(limits.data_bytes, arms.worker).value
    assert abs(found - held) < 8 * MIB


def test_finding_it_leaves_the_limit_as_it_was(forked: Any) -> None:
    def run() -> list[tuple[int, int]]:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        limits.data_bytes()
        return [before, resource.getrlimit(resource.RLIMIT_DATA)]

    before, after = forked(run).value
    assert before == after


def test_limits_cannot_be_raised_again(forked: Any, arms: Any) -> None:
    def raise_it() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)

    assert forked(raise_it, arms.bare).worked

    def attack() -> str:
        try:
            raise_it()
        except (ValueError, OSError):
            return "refused"
        return "raised"

    assert forked(attack, arms.worker, limited()).value == "refused"


def test_files_descriptors_and_core_dumps(forked: Any, workspace: Any) -> None:
    def fill() -> int:
        with open(workspace / "big", "wb", buffering=0) as file:
            return file.write(b"x" * (2 * MIB))

    assert forked(fill).value == 2 * MIB
    assert forked(fill, limited(file_bytes=MIB)).value == MIB

    def open_many() -> int:
        return len([os.open("/dev/null", os.O_RDONLY) for _ in range(64)])

    assert forked(open_many).value == 64
    assert forked(open_many, limited(open_files=32)).errno == 24

    def crash() -> None:
        os.chdir(workspace)
        os.kill(os.getpid(), signal.SIGSEGV)

    assert forked(crash, limited()).signal == signal.SIGSEGV
    assert not [name for name in os.listdir(workspace) if "core" in name]
    # 1 and not 0: behind a pipe, 0 would still start the machine's core handler.
    assert forked(lambda: resource.getrlimit(resource.RLIMIT_CORE), limited()).value == [1, 1]


def test_processes_are_limited_where_they_are_counted_apart(enclosures: Any) -> None:
    def breed(entered: Any, *, limited: bool) -> int:
        if limited:
            limit_worker(64 * MIB, 12, 1.0)
        stop = threading.Event()
        count = 0
        try:
            for _ in range(40):
                threading.Thread(target=stop.wait, daemon=True).start()
                count += 1
        except RuntimeError:
            pass
        stop.set()
        return count

    assert enclosures.run(lambda entered: breed(entered, limited=False)).value == 40
    assert enclosures.run(lambda entered: breed(entered, limited=True)).value < 12


def test_processors(forked: Any) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor is all there is")
    assert len(forked(lambda: list(os.sched_getaffinity(0))).value) >= 2
    assert len(forked(lambda: list(os.sched_getaffinity(0)), limited(cpus=0.5)).value) == 1
    assert len(forked(lambda: list(os.sched_getaffinity(0)), limited(cpus=1.2)).value) == 2
