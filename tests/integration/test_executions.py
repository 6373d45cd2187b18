"""What an execution shows: output at descriptor level, results, displays, errors, usage."""

import sys
import threading

import pytest

import grotto


@pytest.fixture
def session(client):
    with client.session(policy="open") as session:
        yield session


def test_prints_of_python_c_and_child_processes_all_arrive(session):
    ran = session.execute(
        "import ctypes, os, subprocess, sys\n"
        "print('python')\n"
        "ctypes.CDLL(None).puts(b'c library')\n"
        "os.write(1, b'descriptor\\n')\n"
        "subprocess.run(['echo', 'child'])\n"
        "print('to stderr', file=sys.stderr)\n"
        "None"
    )
    assert sorted(ran.stdout.split("\n")) == ["", "c library", "child", "descriptor", "python"]
    assert ran.stderr == "to stderr\n"


def test_invalid_utf8_and_surrogates_in_output_are_replaced(session):
    ran = session.execute("import os\nos.write(1, b'a\\xffb\\n')\nprint('\\ud800')\nNone")
    assert ran.outcome is grotto.Outcome.OK
    assert "a\ufffdb" in ran.stdout and "\\ud800" in ran.stdout


def test_output_over_the_limit_is_counted_and_said(session):
    ran = session.execute(
        "print('x' * 3_000_000)\n'still here'", limits=grotto.Limits(output_bytes=1000)
    )
    assert ran.truncated
    assert len(ran.stdout) <= 1000
    assert ran.ok


def test_the_last_expression_is_the_result_and_underscore_holds_it(session):
    assert session.execute("x = 20\nx + 1").result == "21"
    assert session.execute("_ * 2").result == "42"
    assert session.retrieve("_") == 42
    assert session.execute("None").result is None
    assert session.execute("y = 1").result is None


def test_displays_come_as_mime_bundles(session):
    ran = session.execute(
        "from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))\n"
        "class Rich:\n    def _repr_markdown_(self): return '**x**'\nRich()"
    )
    assert ran.displays[0]["text/html"] in ("<b>x</b>", b"<b>x</b>")


def test_top_level_await_works_and_its_loop_lives_on(session):
    assert session.execute("import asyncio\nawait asyncio.sleep(0, 'slept')").result == "'slept'"
    session.execute(
        "task = asyncio.get_running_loop().create_task(asyncio.sleep(0, 5))\nawait asyncio.sleep(0)"
    )
    assert session.execute("await task").result == "5"


def test_tracebacks_show_tenant_frames_only_and_the_line(session):
    session.execute("import json\ndef load(text):\n    return json.loads(text)")
    failed = session.execute("x = 1\nload('{')")
    assert failed.outcome is grotto.Outcome.RAISED
    assert failed.error.name == "JSONDecodeError"
    assert failed.error.line == 2
    assert "load('{')" in failed.error.traceback
    assert "site-packages" not in failed.error.traceback
    assert "/json/" not in failed.error.traceback


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def f(", "SyntaxError"),
        ("x\0", "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"),
        ("  x = 1", "IndentationError"),
        ("%time 1", "SyntaxError"),
        ("!ls", "SyntaxError"),
        ("return 5", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("exit()", "NameError"),
        ("raise ValueError('\\ud800')", "ValueError"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        ("class R:\n    def __repr__(self): raise ValueError('no repr')\nR()", "ValueError"),
    ],
)
def test_what_goes_wrong_in_tenant_code_is_raised_as_data(session, source, name):
    failed = session.execute(source)
    assert (failed.outcome, failed.state) == (grotto.Outcome.RAISED, grotto.State.KEPT)
    assert failed.error.name == name
    with pytest.raises(grotto.ExecutionError):
        failed.raise_if_failed()
    assert session.execute("1").result == "1"


def test_usage_says_what_it_cost(session):
    ran = session.execute(
        "n = sum(range(3_000_000))\nblock = bytearray(80_000_000)\n"
        "block[::4096] = bytes(len(block[::4096]))"
    )
    assert ran.usage.wall_s >= ran.usage.cpu_s * 0.5 > 0
    assert ran.usage.peak_memory_bytes > 80_000_000
    assert session.usage().executions == 1


def test_a_refusal_lists_every_violation_and_runs_nothing(client):
    with client.session() as session:
        refused = session.execute("ran = True\nimport os\nimport subprocess\neval('1')")
        assert refused.outcome is grotto.Outcome.REFUSED
        assert [v.line for v in refused.violations] == [2, 3, 4]
        assert all(
            v.layer == "ast" and v.column >= 1 and v.why and v.hint for v in refused.violations
        )
        assert session.execute("ran").error.name == "NameError"


def test_interrupt_is_answered_while_code_runs(session):
    outcome = []
    events = session.stream(
        "import time\nprint('started', flush=True)\nwhile True: time.sleep(0.01)"
    )
    for event in events:
        if isinstance(event, grotto.Stdout):
            threading.Thread(target=lambda: outcome.append(session.interrupt())).start()
        if isinstance(event, grotto.Finished):
            finished = event.execution
    assert finished.outcome is grotto.Outcome.INTERRUPTED
    assert finished.state is grotto.State.KEPT


def test_interrupt_of_an_idle_session_says_that_nothing_ran(session):
    session.execute("1")
    assert session.interrupt() is False


def test_the_same_execution_id_never_runs_twice(session):
    first = session.execute("n = globals().get('n', 0) + 1\nn", execution_id="once")
    again = session.execute("n = globals().get('n', 0) + 1\nn", execution_id="once")
    assert (first.result, again.result, session.execute("n").result) == ("1", "1", "1")
    assert session.execution("once").result == "1"
    with pytest.raises(grotto.InvalidArgumentError):
        session.execute("other", execution_id="once")
    with pytest.raises(grotto.NotFoundError):
        session.execution("never")


def test_reset_empties_the_namespace(session):
    session.execute("x = 1")
    session.reset()
    assert session.execute("x").error.name == "NameError"
    assert session.variables() == []


def test_variables_say_name_type_size_and_origin(session):
    session.inject("sales", [1, 2], description="by hand")
    session.execute(
        "import math\ndef area(r: float) -> float:\n    'Of a circle.'\n    return math.pi * r * r"
    )
    found = {variable.name: variable for variable in session.variables()}
    assert set(found) == {"sales", "area"}
    assert (found["sales"].type, found["sales"].origin) == ("list", "injected")
    assert found["sales"].description == "by hand"
    assert "by hand" in session.describe() and "Of a circle." in session.describe()
    session.delete("sales")
    with pytest.raises(grotto.NotFoundError):
        session.delete("sales")


def test_files_go_up_down_and_are_listed(session, tmp_path):
    (tmp_path / "up.bin").write_bytes(b"\0\1" * 2_000_000)
    session.upload(tmp_path / "up.bin", "data/up.bin")
    assert session.execute("len(open('data/up.bin', 'rb').read())").result == "4000000"
    session.execute("open('out.txt', 'w').write('made there')")
    session.download("out.txt", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "made there"
    assert {info.path for info in session.files()} >= {"data/up.bin", "out.txt"}


def test_a_background_thread_does_not_print_into_the_next_execution(session):
    session.execute(
        "import threading, time\nstop = threading.Event()\n"
        "def chat():\n    while not stop.is_set():\n"
        "        print('noise', flush=True); time.sleep(0.001)\n"
        "threading.Thread(target=chat).start()"
    )
    assert session.execute("stop.set()\nimport time; time.sleep(0.05)\nNone").ok
    assert session.execute("print('quiet')").stdout == "quiet\n"
