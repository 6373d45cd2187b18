"""Processes of this host, told apart by pid and start time. Linux only.

Owns how a death is learnt (pidfd, never the end of a stream) and how a whole tree of
hostile processes is ended.
"""

import asyncio
import ctypes
import os
import select
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_STATE, _PARENT, _SESSION, _START_TICKS = 0, 1, 3, 19  # fields after the name, proc(5)
_ROUNDS = 20
_DEATH_TIMEOUT_S = 5


def become_subreaper() -> None:
    """Has orphans below this process become its children, so that it can reap them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def start_ticks(pid: int) -> int | None:
    """Returns the start time of a process in clock ticks since boot, or None if there is none."""
    fields = _stat(pid)
    return int(fields[_START_TICKS]) if fields else None


def open_process(pid: int, ticks: int) -> int | None:
    """Returns a pidfd of the process, or None if it is gone, its pid reused or not."""
    if pid <= 0:
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    # Asked after the pidfd exists: from here on it cannot be another process.
    if start_ticks(pid) != ticks:
        os.close(descriptor)
        return None
    return descriptor


async def wait_for_end(pid: int, ticks: int) -> str:
    """Returns, when the process is dead, how it ended, and reaps it if it is a child."""
    descriptor = open_process(pid, ticks)
    if descriptor is None:
        return "has ended"
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
        return _how_it_ended(descriptor)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def kill_tree(pid: int, ticks: int, uid: int | None) -> None:
    """Ends a process, all that descend from it, and all of `uid` if that is its own.

    Everything is stopped first, so that nothing can fork its way out. Blocks for
    milliseconds.
    """
    victims: dict[int, int] = {}
    root = open_process(pid, ticks)
    if root is not None:
        victims[pid] = root
        _send(root, signal.SIGSTOP)
    try:
        for _ in range(_ROUNDS):
            found = {p for p in _below(victims) | of_user(uid) if p not in victims}
            if not found:
                break
            for process in found:
                with suppress(OSError):
                    victims[process] = os.pidfd_open(process)
                    _send(victims[process], signal.SIGSTOP)
        for descriptor in victims.values():
            _send(descriptor, signal.SIGKILL)
        for descriptor in victims.values():
            _await_end(descriptor)
            _reap(descriptor)
    finally:
        for descriptor in victims.values():
            os.close(descriptor)


def reap_orphans(own: frozenset[int]) -> None:
    """Reaps dead children that this process did not start: those not in `own` that are in another
    session. Only for a process that does not run subprocesses in sessions of their own."""
    me, session = os.getpid(), os.getsid(0)
    for pid in _pids():
        fields = _stat(pid)
        if not fields or fields[_STATE] != "Z" or int(fields[_PARENT]) != me:
            continue
        if int(fields[_SESSION]) != session and pid not in own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _below(roots: dict[int, int]) -> set[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for pid in _pids():
        fields = _stat(pid)
        if fields and fields[_STATE] != "Z":
            children[int(fields[_PARENT])].append(pid)
    found: set[int] = set()
    queue = list(roots)
    while queue:
        below = children.pop(queue.pop(), [])
        found.update(below)
        queue.extend(below)
    return found


def of_user(uid: int | None) -> set[int]:
    """Returns the pids of all processes of that uid; none for None."""
    if uid is None:
        return set()
    found = set()
    for pid in _pids():
        # Not the owner of /proc/PID: that is root for a process that is not dumpable.
        with suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as file:
            uids = next((line for line in file if line.startswith(b"Uid:")), b"Uid: -1")
            if int(uids.split()[1]) == uid:
                found.add(pid)
    return found


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _stat(pid: int) -> list[str] | None:
    try:
        # The name is in parentheses and may hold anything, parentheses too.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _send(descriptor: int, number: signal.Signals) -> None:
    with suppress(OSError):
        signal.pidfd_send_signal(descriptor, number)


def _await_end(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(_DEATH_TIMEOUT_S * 1000)


def _reap(descriptor: int) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)


def _how_it_ended(descriptor: int) -> str:
    try:
        result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return "has ended"
    if result is None:
        return "has ended"
    if result.si_code == os.CLD_EXITED:
        return f"ended with status {result.si_status}"
    return f"was killed by signal {result.si_status}"
