"""Ending a tree of processes that does all it can to live on, and has no uid to be found by.

Each scenario runs in a process of its own that is a subreaper, as the control plane is:
what is left of the tree is its child, and it has no others. A tree ends by itself after
some seconds, so that a failure leaves nothing behind.
"""

import platform
import subprocess
import sys

import pytest

SCENARIO = """
import os, signal, subprocess, sys
from grotto_control.backends import processes

def all_dead():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return False
    except ChildProcessError:
        return True

tree, ending, session, trials = sys.argv[1:]
processes.become_subreaper()
for _ in range(int(trials)):
    root = subprocess.Popen(
        [sys.executable, "-c", tree], stdout=subprocess.PIPE, start_new_session=session == "own"
    )
    assert root.stdout.read(1) == b"x"
    if ending == "tree":
        processes.kill_tree(root.pid, processes.start_ticks(root.pid), None)
    else:
        root.kill()
        root.wait()
    print("dead" if all_dead() else "alive")
    while not all_dead():
        os.wait()
    root.returncode = 0
"""

ROOT = """
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
libc.prctl(36, 1, 0, 0, 0)  # a subreaper, as a sandbox's daemon
end = time.monotonic() + 3

def comet():
    while time.monotonic() < end:
        {comet}
    os._exit(0)

def headless():
    def wait():
        while ") Z " not in open(f"/proc/{{os.getpid()}}/stat").read():
            pass
        os.write(1, b"x")
        time.sleep(3)
    threading.Thread(target=wait).start()
    libc.syscall({exit}, 0)  # of this thread only

for _ in range({count}):
    if os.fork() == 0:
        {child}
{ready}
time.sleep(3)
"""
FORK = "os.fork() and os._exit(0)"
COMETS = {"exit": 0, "count": 3, "ready": "os.write(1, b'x')"}
TREES = {
    "comets in one session": ROOT.format(comet=FORK, child="os.setsid(); comet()", **COMETS),
    "comets in a session each": ROOT.format(
        comet=f"{FORK}; os.setsid()", child="comet()", **COMETS
    ),
    "comets beside the root": ROOT.format(comet=FORK, child="comet()", **COMETS),
    "a process without its first thread": ROOT.format(
        comet="pass",
        child="os.setsid(); headless()",
        exit={"x86_64": 60}.get(platform.machine(), 93),
        count=1,
        ready="",
    ),
}


def outcomes(tree: str, ending: str, session: str = "own", trials: int = 5) -> list[str]:
    """Returns, per trial, whether all of the tree was dead after its ending."""
    done = subprocess.run(
        [sys.executable, "-c", SCENARIO, tree, ending, session, str(trials)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.split()


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
def test_nothing_of_a_tree_outruns_its_end(tree):
    assert outcomes(tree, "tree") == ["dead"] * 5


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
def test_control_they_live_on_when_only_their_root_is_killed(tree):
    assert outcomes(tree, "root", trials=1) == ["alive"]


def test_a_tree_in_our_own_session_does_not_take_us_along():
    assert outcomes(TREES["comets in one session"], "tree", session="ours") == ["dead"] * 5
    assert outcomes(TREES["comets in a session each"], "tree", session="ours") == ["dead"] * 5
