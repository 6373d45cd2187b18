"""Finds what a test left behind: processes, descriptors, folders, mounts.

`Snapshot.take` before a test, `leaks` after it. What existed before is the affair of
fixtures with a wider scope. Things are told apart by what they are and not counted, so
that one leak cannot hide behind something else that was closed meanwhile. The one
exception are the sandboxes of a server that existed before: it replaces what a test
took from its warm pool, so they are counted.
"""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

SERVER, SANDBOX, WORKER = "grotto_control", "grotto_runtime", "grotto_worker"
KEEPER = "engine_keeper"
"""A process of the tests that, like a server, starts and ends others as it has to."""
DEADLINE_S = 10.0
POLL_S = 0.02
DEFAULT_POOL = 1
"""Idle sandboxes of a server whose command line does not say."""

LAZY_KINDS = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""gRPC's poller opens these when it likes. A leaked event loop or channel shows all the same:
by its socket pair, its connection."""


@dataclass(frozen=True)
class Process:
    """One process, told apart from later ones with the same pid."""

    pid: int
    started_s: float
    command: str

    def __str__(self) -> str:
        return f"process {self.pid}: {self.command}"


@dataclass(frozen=True)
class Descriptor:
    """An open descriptor of this process; `target` names the open file, e.g. `socket:[4711]`."""

    number: int
    target: str

    def __str__(self) -> str:
        return f"descriptor {self.number}: {self.target}"


@dataclass(frozen=True)
class Folder:
    """An entry of the temporary folder of this test run."""

    path: str

    def __str__(self) -> str:
        return f"left in the temporary folder: {self.path}"


@dataclass(frozen=True)
class Mount:
    """A file system below the temporary folder of this test run."""

    path: str

    def __str__(self) -> str:
        return f"mount {self.path}"


Thing = Process | Descriptor | Folder | Mount


@dataclass(frozen=True)
class Snapshot:
    """What is there at one moment."""

    things: frozenset[Thing]
    sandboxes: dict[int, int]
    """How many sandboxes each server is allowed, by its pid: as many as now, or its pool."""

    @classmethod
    def take(cls) -> "Snapshot":
        servers = {p.pid: max(_sandboxes(p), _pool(p)) for p in family() if _is_server(p)}
        things = [*processes(frozenset()), *descriptors(), *folders(), *mounts()]
        return cls(frozenset(things), servers)


def leaks(
    before: Snapshot,
    deadline_s: float = DEADLINE_S,
    elsewhere: Callable[[], list[str]] = list,
) -> list[str]:
    """Returns what is there now and was not before, after time to end: `deadline_s` seconds.

    `elsewhere` tells what else there is that should not be.
    """
    end_s = time.monotonic() + deadline_s
    while True:
        gc.collect()
        left = sorted([*_new(before), *_crowded(before), *elsewhere()])
        if not left or time.monotonic() > end_s:
            return left
        time.sleep(POLL_S)


def _new(before: Snapshot) -> Iterator[str]:
    now = {*processes(frozenset(before.sandboxes)), *descriptors(), *folders(), *mounts()}
    yield from (str(thing) for thing in now - before.things)


def _crowded(before: Snapshot) -> Iterator[str]:
    for process in family():
        allowed = before.sandboxes.get(process.pid)
        if allowed is not None and (count := _sandboxes(process)) > allowed:
            yield f"server {process.pid} has {count} sandboxes, and {allowed} are its own"


def family() -> list[psutil.Process]:
    """Returns every descendant of this process, and every orphan of our packages."""
    found = {process.pid: process for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        if _is_ours(process) and _is_orphan(process):
            found[process.pid] = process
    return list(found.values())


def processes(servers: frozenset[int]) -> Iterator[Process]:
    """Yields the family, but for what those servers started."""
    for process in family():
        try:
            theirs = servers.intersection(parent.pid for parent in process.parents())
            zombie = process.status() == psutil.STATUS_ZOMBIE
            if theirs or (zombie and process.ppid() != os.getpid()):
                continue  # a zombie is dead; only our own is ours to reap
            yield Process(process.pid, process.create_time(), " ".join(process.cmdline())[:200])
        except psutil.Error:
            continue  # it has just ended


def _sandboxes(server: psutil.Process) -> int:
    try:
        return sum(_runs(child, SANDBOX) for child in server.children())
    except psutil.Error:
        return 0


def _pool(server: psutil.Process) -> int:
    try:
        words = server.cmdline()
    except psutil.Error:
        return 0
    return int(words[words.index("--pool") + 1]) if "--pool" in words else DEFAULT_POOL


def _runs(process: psutil.Process, package: str) -> bool:
    try:
        return package in process.cmdline()
    except psutil.Error:
        return False


def _is_server(process: psutil.Process) -> bool:
    return _runs(process, SERVER) or _runs(process, KEEPER)


def _is_ours(process: psutil.Process) -> bool:
    return any(_runs(process, package) for package in (SERVER, SANDBOX, WORKER))


def _is_orphan(process: psutil.Process) -> bool:
    """True when nothing but our own processes stands between it and init.

    The processes of another test run, or of a person's shell, have those as ancestors.
    """
    try:
        return all(parent.pid == 1 or _is_ours(parent) for parent in process.parents())
    except psutil.Error:
        return False


def descriptors() -> Iterator[Descriptor]:
    """Yields the open descriptors of this process, but for `LAZY_KINDS` and the listing's own."""
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target not in LAZY_KINDS and target != f"/proc/{os.getpid()}/fd":
            yield Descriptor(int(number), target)


def folders() -> Iterator[Folder]:
    """Yields the entries of the temporary folder, which conftest.py makes for each run."""
    for path in Path(tempfile.gettempdir()).iterdir():
        yield Folder(str(path))


def mounts() -> Iterator[Mount]:
    """Yields what is mounted below the temporary folder."""
    below = f"{tempfile.gettempdir()}/"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if (path := line.split()[1]).startswith(below):
            yield Mount(path)
