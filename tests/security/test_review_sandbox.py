"""Holes found by attacking a running server; each test states what a sandbox must not do.

The tenant code takes the worker's own channel (it is in the same interpreter) and
speaks to the daemon in the worker's name, or takes memory where no limit looks.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from serving import Server

import grotto

MIB = 1024 * 1024

WORKER = """
import os, signal, sys, time
from grotto_wire import frames
def look(kind, name):
    frame = sys._getframe()
    while type(frame.f_locals.get(name)).__name__ != kind:
        frame = frame.f_back
    return frame.f_locals[name]
worker, running = look("Worker", "self"), look("Execute", "request").id
def send(message): worker._channel._sock.sendall(frames.encode(message))
"""


class Attacked:
    """A server, a client, and a look at it from outside."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder, "--pool", "0")
        self.server.start()
        self.client = grotto.connect(self.server.url, self.server.key("acme"))
        self.client.sessions()  # connected now, not within some test

    def session(self, recovery: str = "on", **limits: object) -> grotto.Session:
        given = {"memory": "512MiB", "wall_s": 5, "pids": 32, **limits}
        extra = {} if recovery == "on" else {"recovery": recovery}
        return self.client.session(policy="open", limits=grotto.Limits(**given), **extra)

    def daemon(self) -> psutil.Process:
        assert self.server._process is not None
        children = psutil.Process(self.server._process.pid).children()
        return max(children, key=lambda process: process.create_time())

    def close(self) -> None:
        self.client.close()
        self.server.stop()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    found = Attacked(tmp_path_factory.mktemp("attacked"))
    yield found
    found.close()


def machine_bytes(field: str) -> int:
    """A line of /proc/meminfo: `Shmem` or `PageTables` of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def grown_mib(process: psutil.Process, attack: Callable[[], object]) -> int:
    before = process.memory_info().rss
    attack()
    return (process.memory_info().rss - before) // MIB


# ---- the worker's channel ----


def test_displays_without_content_cost_the_daemon_no_memory(attacked):
    flood = "data = frames.encode(frames.Display(running, {})) * 5000\n"
    flood += "for _ in range(12): worker._channel._sock.sendall(data)"
    with attacked.session() as session:
        done = []
        grown = grown_mib(attacked.daemon(), lambda: done.append(session.execute(WORKER + flood)))
        assert done[0].error is None
        assert grown < 20


@pytest.mark.parametrize(
    "frames",
    [
        "for _ in range(30): send(frames.Display(running, {'k' * 3_900_000: b''}))",
        "send(frames.Executed(running, frames.Problem('E', 'm', 'x' * 3_900_000, 1), "
        "None, False, 0))",
        "send(frames.Executed(running, None, {'k' * 3_900_000: b''}, False, 0))",
    ],
    ids=["display keys", "traceback", "result key"],
)
def test_texts_that_no_limit_counts_neither_stay_nor_hide_the_outcome(attacked, frames):
    with attacked.session() as session:
        done = []
        grown = grown_mib(attacked.daemon(), lambda: done.append(session.execute(WORKER + frames)))
        assert done[0].error is None or done[0].error.name == "E"
        assert grown < 64


def test_a_display_of_many_parts_does_not_stop_the_daemon(attacked):
    bomb = "send(frames.Display(running, {'%05x' % n: b'' for n in range(400_000)}))"
    with attacked.session(wall_s=1) as session:
        began = time.monotonic()
        done = session.execute(WORKER + bomb)
        assert done.error is None
        assert time.monotonic() - began < 2.5


def test_a_worker_that_stops_reading_is_ended_by_the_deadline(attacked):
    """Its child holds the channel open, so the daemon's write never fails."""
    setup = """
if os.fork() == 0:
    while True: time.sleep(100)
worker._shell.warm_up = lambda: os.kill(os.getpid(), signal.SIGSTOP)
"""
    session = attacked.session()
    with ThreadPoolExecutor(1) as thread:
        try:
            session.execute(WORKER + setup).raise_if_failed()
            time.sleep(0.5)
            stuck = thread.submit(session.execute, "1\n#" + "x" * 250_000, timeout=0.5)
            assert stuck.result(timeout=6).outcome is grotto.Outcome.TIMED_OUT
        finally:
            session.close()


# ---- what is said of the state ----


def test_a_namespace_lost_between_executions_is_not_reported_as_kept(attacked):
    with attacked.session(recovery="off") as session:
        session.execute(
            "x = 1\nimport os, threading\nthreading.Timer(0.1, lambda: os._exit(3)).start()"
        )
        time.sleep(0.4)
        after = session.execute("'x' in globals()")
        assert (after.result, after.state) == ("False", grotto.State.LOST)


def test_a_second_death_does_not_turn_a_loss_into_a_restoration(attacked):
    setup = """
x = 1
worker._shell.warm_up = lambda: (os.kill(worker._frozen[-1], 9), os.kill(os.getpid(), 9))
"""
    with attacked.session() as session:
        session.execute(WORKER + setup).raise_if_failed()
        time.sleep(0.4)
        died = session.execute("import os\nos._exit(1)")
        assert session.execute("'x' in globals()").result == "False"
        assert died.state is grotto.State.LOST


# ---- memory that no limit looks at ----


def test_memory_is_bounded_while_nothing_executes(attacked):
    """Children that wait for the execution to end, then take what they want."""
    grow = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        time.sleep(0.7)
        held = bytearray(150 << 20)
        held[::4096] = bytes(len(held[::4096]))[:len(held[::4096])]
        time.sleep(60)
        os._exit(0)
"""
    with attacked.session(memory="400MiB") as session:
        session.execute(grow)
        time.sleep(2.5)
        assert session.usage().memory_bytes < 500 * MIB


def test_page_tables_count_as_memory(attacked):
    """Reading the zero page far apart costs a page table each, and nothing else."""
    touch = """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
for _ in range(64):
    at = libc.mmap(None, 2 << 30, 1, 0x4022, -1, 0)
    for offset in range(0, 2 << 30, 2 << 20): ctypes.c_ubyte.from_address(at + offset).value
"""
    with attacked.session(memory="128MiB") as session:
        before = machine_bytes("PageTables")
        session.execute(touch)
        assert (machine_bytes("PageTables") - before) // MIB < 200


def test_memory_of_values_handed_out_is_not_kept_by_the_sandbox(attacked):
    """Each retrieve of a small value lends the worker memory of `value_bytes`."""
    keep = """
original = type(worker)._get
def get(self, request, descriptors):
    os.posix_fallocate(os.dup(descriptors[0]), 0, 60 << 20)
    return original(self, request, descriptors)
type(worker)._get = get
v = 1
"""
    with attacked.session(memory="128MiB", value_bytes="64MiB") as session:
        session.execute(WORKER + keep).raise_if_failed()
        before = machine_bytes("Shmem")
        for _ in range(8):
            session.retrieve("v")
        assert (machine_bytes("Shmem") - before) // MIB < 250


# ---- hostile objects in the namespace ----


@pytest.mark.parametrize(
    "code",
    [
        "class M(type):\n    @property\n    def __signature__(s): raise RuntimeError\n"
        "class A(metaclass=M): pass",
        "class B:\n    @property\n    def __class__(s): raise RuntimeError\nb = B()",
        "class M(type):\n    def __eq__(s, o): raise RuntimeError\n"
        "    __hash__ = type.__hash__\nclass A(metaclass=M): pass\na = A()",
        "for i in range(2000):\n    def f(): pass\n    f.__doc__ = chr(0x1F600) * 600\n"
        "    globals()[f'f{i}'] = f",
    ],
    ids=["signature", "class", "metaclass", "many docs"],
)
def test_variables_are_listed_whatever_the_namespace_holds(attacked, code):
    with attacked.session() as session:
        session.execute("kept = 1\n" + code).raise_if_failed()
        assert "kept" in [variable.name for variable in session.variables()]


def test_files_are_listed_however_deep_they_lie(attacked):
    make = """
import os
folder = "/workspace/" + "/".join(["d" * 250] * 14)
os.makedirs(folder)
for n in range(2000): open(f"{folder}/{n}", "w")
"""
    with attacked.session() as session:
        session.execute(make).raise_if_failed()
        assert session.files()


def test_output_of_nobody_costs_the_daemon_no_processor(attacked):
    with attacked.session() as session:
        session.execute("import subprocess\nsubprocess.Popen(['/usr/bin/yes'])").raise_if_failed()
        daemon = attacked.daemon()
        daemon.cpu_percent()
        time.sleep(1.5)
        assert daemon.cpu_percent() < 40


def test_processor_time_of_children_counts(attacked):
    burn = """
import subprocess, sys
code = "import time; end = time.time() + 2.5\\nwhile time.time() < end: pass"
subprocess.run([sys.executable, "-c", code])
"""
    with attacked.session(cpu_s=0.5) as session:
        done = session.execute(burn)
        assert done.error is None or done.outcome is not grotto.Outcome.RAISED
        assert done.outcome is grotto.Outcome.TIMED_OUT
