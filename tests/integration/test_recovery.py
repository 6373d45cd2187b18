"""An execution that kills its interpreter costs that execution only.

The state every test sets up is what a restart cannot bring back: a half-consumed
generator, an in-memory database, two names for one object.
"""

import pytest

import grotto

SETUP = """
import sqlite3
database = sqlite3.connect(":memory:")
database.execute("create table t (n)")
database.execute("insert into t values (7)")
generator = (n * n for n in range(100))
assert [next(generator), next(generator)] == [0, 1]
shared = [1, 2]
alias = shared
kept = 41
"""

CHECK = """
assert database.execute("select n from t").fetchall() == [(7,)]
assert next(generator) == 4
assert alias is shared and shared == [1, 2]
kept + 1
"""

DAMAGE = {
    "segfault": "import ctypes\nctypes.string_at(0)",
    "exit": "import os\nos._exit(0)",
    "abort": "import os\nos.abort()",
    "sigkill": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "c stack overflow": (
        "import sys\nsys.setrecursionlimit(10**8)\nclass A:\n"
        "    def __getattr__(self, name): return getattr(self, name)\n"
        "def f(x): return f([x]) if True else 0\nimport ctypes\n"
        "callback = ctypes.CFUNCTYPE(ctypes.c_int)\n"
        "def again(): return callback(again)()\nagain()"
    ),
}


@pytest.fixture
def session(client):
    with client.session(policy="open", limits=grotto.Limits(memory="512MiB", wall_s=60)) as session:
        session.execute(SETUP).raise_if_failed()
        yield session


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_death_is_answered_and_the_namespace_is_as_before(session, damage):
    died = session.execute(f"shared.append(3); kept = 0; next(generator)\n{DAMAGE[damage]}")
    assert (died.outcome, died.state) == (grotto.Outcome.KILLED, grotto.State.RESTORED)
    assert "interpreter" in died.state_note
    assert session.execute(CHECK).result == "42"


def test_memory_over_the_limit_ends_the_execution_with_the_figures(session):
    bomb = "kept = 0\nhoard = []\nwhile True: hoard.append(bytes(range(256)) * 4096)"
    died = session.execute(bomb)
    # A single request over the limit raises MemoryError; a hoard is ended from outside.
    assert died.outcome in (grotto.Outcome.KILLED, grotto.Outcome.RAISED)
    if died.outcome is grotto.Outcome.KILLED:
        assert died.state is grotto.State.RESTORED
        assert "memory" in died.state_note
    session.execute("hoard = None; kept = 41").raise_if_failed()
    assert session.execute(CHECK).result == "42"


def test_a_hang_that_ignores_interrupts_is_killed_and_undone(session):
    hang = (
        "import time\nkept = 0\nwhile True:\n"
        "    try: time.sleep(60)\n    except BaseException: pass"
    )
    hung = session.execute(hang, timeout=0.3)
    assert (hung.outcome, hung.state) == (grotto.Outcome.TIMED_OUT, grotto.State.RESTORED)
    assert session.execute(CHECK).result == "42"


def test_a_hang_that_can_be_interrupted_keeps_its_work(session):
    hung = session.execute("kept = 40 + 1\nimport time\ntime.sleep(60)", timeout=0.3)
    assert (hung.outcome, hung.state) == (grotto.Outcome.TIMED_OUT, grotto.State.KEPT)
    assert hung.error.line == 3
    assert session.execute(CHECK).result == "42"


def test_a_stopped_interpreter_is_killed_and_undone(session):
    stopped = session.execute(
        "import os, signal\nkept = 0\nos.kill(os.getpid(), signal.SIGSTOP)", timeout=0.3
    )
    assert (stopped.outcome, stopped.state) == (grotto.Outcome.TIMED_OUT, grotto.State.RESTORED)
    assert session.execute(CHECK).result == "42"


def test_output_before_the_death_is_delivered(session):
    died = session.execute("import os\nprint('last words', flush=True)\nos._exit(1)")
    assert died.stdout == "last words\n"


def test_a_value_injected_since_the_last_execution_survives_the_next_death(session):
    session.inject("late", {"a": [1, 2]})
    session.execute("import os\nos._exit(1)")
    assert session.retrieve("late") == {"a": [1, 2]}


def test_deaths_in_a_row_go_back_to_the_same_moment(session):
    for _ in range(5):
        died = session.execute("kept += 1\nimport os\nos._exit(1)")
        assert died.state is grotto.State.RESTORED
    assert session.execute(CHECK).result == "42"


def test_a_death_between_executions_is_told_with_the_next(session):
    session.execute(
        "import threading, ctypes, time\n"
        "def bomb():\n    time.sleep(0.3)\n    ctypes.string_at(0)\n"
        "threading.Thread(target=bomb).start()"
    )
    # Until nothing but the frozen copy is left.
    assert any(session.usage().processes == 1 for _ in range(10_000))
    after = session.execute(CHECK)
    assert "SIGSEGV" in after.state_note
    assert after.result == "42"


def test_children_of_a_dead_interpreter_do_not_outlive_it(session):
    session.execute(
        "import subprocess, os\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\nos._exit(1)"
    )
    assert session.execute("1").result == "1"
    # A killed process takes its time to be gone; the worker and its frozen copy stay.
    assert any(session.usage().processes == 2 for _ in range(1000))


def test_without_recovery_a_death_loses_the_namespace_and_says_so(client):
    with client.session(policy="open", recovery="off") as session:
        session.execute("kept = 1").raise_if_failed()
        died = session.execute("import os\nos._exit(1)")
        assert (died.outcome, died.state) == (grotto.Outcome.KILLED, grotto.State.LOST)
        assert session.execute("kept").error.name == "NameError"


def test_the_first_execution_can_die_too(client):
    with client.session(policy="open") as session:
        died = session.execute("import os\nos._exit(1)")
        assert died.state is grotto.State.RESTORED  # it was empty, and it is
        assert session.execute("1 + 1").result == "2"


def test_the_worker_process_stays_the_same_while_nothing_kills_it(session):
    before = session.execute("import os\nos.getpid()").result
    session.execute("1/0")
    assert session.execute("os.getpid()").result == before
    session.execute("os._exit(0)")
    assert session.execute("import os\nos.getpid()").result != before
