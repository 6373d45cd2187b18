"""Processes of this host, told apart by pid and start time. Linux only.

Owns how a death is learnt (pidfd, never the end of a stream) and how a whole tree of
hostile processes is ended.
"""

import asyncio
import ctypes
import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_PR_SET_CHILD_SUBREAPER = 36
_EMPTY_ROUNDS = 2
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Stat:
    """What /proc/PID/stat tells of a process, proc(5)."""

    state: str
    parent: int
    group: int
    session: int
    threads: int
    ticks: int

    @property
    def ended(self) -> bool:
        """Whether all of it is dead: a process whose first thread has ended looks so, too."""
        return self.state == "Z" and self.threads <= 1


def become_subreaper() -> None:
    """Has orphans below this process become its children, so that it can reap them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def start_ticks(pid: int) -> int | None:
    """Returns the start time of a process in clock ticks since boot, or None if there is none."""
    stat = _stat(pid)
    return stat.ticks if stat else None


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

    It is stopped first and ends last: orphans below a sandbox's daemon come to it, and
    would be lost from sight among our own children. Blocks for milliseconds, or a few
    times `_TIMEOUT_S` if something resists.
    """
    root = open_process(pid, ticks)
    if root is None and uid is None:
        return
    hunt = _Hunt(None if root is None else pid, uid)
    try:
        if root is not None:
            _send(root, signal.SIGSTOP)
        hunt.run()
        if root is not None:
            _send(root, signal.SIGKILL)
            _await_end(root, time.monotonic() + _TIMEOUT_S)
            _reap(root)
        hunt.root_has_ended()
        hunt.run()  # what slipped through is our child by now
        hunt.bury()
    finally:
        if root is not None:
            os.close(root)


class _Hunt:
    """Kills what is below `root` or belongs to `uid`, however fast it multiplies.

    A process that forks and exits is gone before its pid can be used. But its group lives
    on, or is told by its zombie, and dies as one, with the children that are just being
    made: fork(2) gives way to a signal. Only `setsid` and `setpgid` lead out of a group;
    who calls them each time is slow enough to be met.
    """

    def __init__(self, root: int | None, uid: int | None) -> None:
        self._root = root
        self._uid = uid
        self._us = os.getpid()
        self._struck: dict[int, int] = {}
        self._sessions: set[int] = set()
        self._foreign = {0, os.getsid(0)}  # 0: of no process in our namespace
        stat = _stat(root) if root is not None else None
        self._root_group = stat.group if stat else None
        if stat is not None and stat.session != root:
            self._foreign.add(stat.session)

    def run(self) -> None:
        """Returns when nothing new was there, twice in a row; or in vain after `_TIMEOUT_S`."""
        until_s, empty = time.monotonic() + _TIMEOUT_S, 0
        while empty < _EMPTY_ROUNDS and time.monotonic() < until_s:
            empty = 0 if self._round() else empty + 1

    def root_has_ended(self) -> None:
        self._root = self._root_group = None

    def bury(self) -> None:
        """Waits for the end of what was killed, and reaps what is our child."""
        until_s = time.monotonic() + _TIMEOUT_S
        for pid, ticks in self._struck.items():
            descriptor = open_process(pid, ticks)
            if descriptor is not None:
                _await_end(descriptor, until_s)
                _reap(descriptor)
                os.close(descriptor)

    def _round(self) -> bool:
        """Looks at everything once; returns whether anything new was there."""
        found = False
        children: dict[int, list[tuple[int, _Stat]]] = defaultdict(list)
        for pid in sorted(_pids(), reverse=True):  # the newest are the shortest-lived
            if stat := _stat(pid):
                children[stat.parent].append((pid, stat))
                if stat.parent == self._root or self._has_come_to_us(pid, stat):
                    found |= self._strike(pid, stat)
        below = [] if self._root is None else [self._root]
        while below:
            for pid, stat in children.pop(below.pop(), []):
                found |= self._strike(pid, stat)
                below.append(pid)
        for pid in of_user(self._uid):
            if stat := _stat(pid):
                found |= self._strike(pid, stat)
        return found

    def _has_come_to_us(self, pid: int, stat: _Stat) -> bool:
        """Whether it is an orphan of the tree. Sandboxes that we start lead their sessions."""
        return stat.parent == self._us and stat.session in self._sessions and pid != stat.session

    def _strike(self, pid: int, stat: _Stat) -> bool:
        """Kills a process and its group; False if that has been done before."""
        if self._struck.get(pid) == stat.ticks or pid == self._root:
            return False
        self._strike_group(stat)
        if stat.ended:
            self._struck[pid] = stat.ticks
        elif (descriptor := open_process(pid, stat.ticks)) is not None:
            self._struck[pid] = stat.ticks
            _send(descriptor, signal.SIGKILL)
            os.close(descriptor)
        return True

    def _strike_group(self, stat: _Stat) -> None:
        """Everything in a session that began within the tree is of the tree."""
        if stat.session in self._foreign or stat.group == 0:
            return  # 0: a group outside this pid namespace; to killpg it is our own
        self._sessions.add(stat.session)
        number = signal.SIGSTOP if stat.group == self._root_group else signal.SIGKILL
        with suppress(OSError):
            os.killpg(stat.group, number)


def reap_orphans(own: frozenset[int]) -> None:
    """Reaps dead children that this process did not start: those not in `own` that are in another
    session. Only for a process that does not run subprocesses in sessions of their own."""
    me, session = os.getpid(), os.getsid(0)
    for pid in _pids():
        stat = _stat(pid)
        if stat is None or not stat.ended or stat.parent != me:
            continue
        if stat.session != session and pid not in own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


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


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name is in parentheses and may hold anything, parentheses too.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    parent, group, session = map(int, fields[1:4])
    return _Stat(fields[0].decode(), parent, group, session, int(fields[17]), int(fields[19]))


def _send(descriptor: int, number: signal.Signals) -> None:
    with suppress(OSError):
        signal.pidfd_send_signal(descriptor, number)


def _await_end(descriptor: int, until_s: float) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(max(0.0, until_s - time.monotonic()) * 1000)


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
