"""Finds what a test left behind: processes, descriptors, folders.

`Snapshot.take` before a test, `leaks` after it. What existed before is the affair of
fixtures with a wider scope. Nothing is counted: each thing is known by what it is, so
that one leak cannot hide behind something else that was closed meanwhile.
"""

import gc
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

PACKAGES = ("grotto_runtime", "grotto_worker", "grotto_control")
DEADLINE_S = 10.0
POLL_S = 0.02

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


Thing = Process | Descriptor | Folder


@dataclass(frozen=True)
class Snapshot:
    """What is there at one moment."""

    things: frozenset[Thing]

    @classmethod
    def take(cls) -> "Snapshot":
        return cls(frozenset([*processes(), *descriptors(), *folders()]))


def leaks(before: Snapshot, deadline_s: float = DEADLINE_S) -> list[str]:
    """Returns what is there now and was not before, after time to end: `deadline_s` seconds."""
    end_s = time.monotonic() + deadline_s
    while True:
        gc.collect()
        left = Snapshot.take().things - before.things
        if not left or time.monotonic() > end_s:
            return sorted(str(thing) for thing in left)
        time.sleep(POLL_S)


def processes() -> Iterator[Process]:
    """Yields every descendant of this process, and every orphan of our packages."""
    me = psutil.Process()
    for process in me.children(recursive=True):
        yield from _known(process)
    for process in psutil.process_iter():
        if _is_ours(process) and _is_orphan(process):
            yield from _known(process)


def _known(process: psutil.Process) -> Iterator[Process]:
    try:
        if process.status() == psutil.STATUS_ZOMBIE and process.ppid() != os.getpid():
            return  # dead; whoever inherited it will reap it
        yield Process(process.pid, process.create_time(), " ".join(process.cmdline())[:200])
    except psutil.Error:
        return


def _is_ours(process: psutil.Process) -> bool:
    try:
        return any(package in word for word in process.cmdline() for package in PACKAGES)
    except psutil.Error:
        return False


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
