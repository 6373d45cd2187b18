"""The command line against a scripted server: output, JSON, exit codes, hostile text."""

import json
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from grotto.cli import main
from grotto_proto.v1 import errors_pb2, execution_pb2

Event = execution_pb2.Event


@pytest.fixture
def call(server):
    """Runs a command against the fake server."""

    def run(*words: str, **options) -> Result:
        env = {"GROTTO_URL": server.url, "GROTTO_API_KEY": "k", "COLUMNS": "200"}
        return CliRunner().invoke(main, list(words), env=env, **options)

    return run


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "job.py"
    path.write_text("print('hi')\n1 + 1\n")
    return str(path)


def test_run_prints_output_and_result(call, fake, script, finished):
    result = execution_pb2.MimeBundle(data={"text/plain": b"2"})
    fake.batches = [[Event(stdout=b"hi\n"), Event(stderr=b"warn\n"), Event(result=result)]]
    fake.batches += [[finished()]]
    done = call("run", script, "--timeout", "5")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "hi\n2\n", "warn\n")
    spec = fake.requests["Execute"][0].spec
    assert (spec.source, spec.limits.wall_s) == ("print('hi')\n1 + 1\n", 5)
    assert len(fake.requests["CloseSession"]) == 1


def test_run_as_json(call, fake, script, finished):
    fake.batches = [[Event(stdout="é\x1b[2J".encode()), finished()]]
    done = call("run", script, "--json")
    execution = json.loads(done.stdout)
    assert done.exit_code == 0 and "\x1b" not in done.stdout
    assert (execution["ok"], execution["outcome"], execution["stdout"]) == (True, "ok", "é\x1b[2J")


def test_run_exits_with_1_when_the_code_fails(call, fake, script, finished):
    error = execution_pb2.TenantError(name="E", message="m", traceback="Trace\x1b[2Jback", line=1)
    fake.batches = [[finished(outcome=execution_pb2.OUTCOME_RAISED, error=error)]]
    done = call("run", script)
    assert done.exit_code == 1
    assert done.stderr == "Trace\\x1b[2Jback\n"


def test_run_tells_every_violation(call, fake, script, finished):
    found = [
        execution_pb2.Violation(what=what, line=1, column=1, why="Bad.", hint="Do better.")
        for what in ("os", "sys")
    ]
    fake.batches = [[finished(outcome=execution_pb2.OUTCOME_REFUSED, violations=found)]]
    done = call("run", script)
    assert done.exit_code == 1
    assert "os: Bad. Do better." in done.stderr and "sys: Bad. Do better." in done.stderr


def test_run_reads_standard_input(call, fake, finished):
    fake.batches = [[finished()]]
    assert call("run", "-", input="x = 1").exit_code == 0
    assert fake.requests["Execute"][0].spec.source == "x = 1"


def test_run_injects_files(call, fake, script, finished, tmp_path):
    (tmp_path / "a.json").write_text('{"k": [1, 2]}')
    (tmp_path / "b.txt").write_text("text")
    fake.batches = [[finished()]]
    done = call(
        "run", script, "--inject", f"a={tmp_path}/a.json", "--inject", f"b={tmp_path}/b.txt"
    )
    assert done.exit_code == 0, done.stderr
    assert list(fake.requests["PutValue"][0].spec.names) == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--inject", "a"], "NAME=PATH"),
        (["--inject", "a=x.pickle"], "no known format"),
        (["--inject", "a=/none/such.csv"], "cannot be read"),
        (["--retrieve", "a=x.exe"], "no known format"),
        (["--timeout", "-1"], "out of range"),
        (["--timeout", "soon"], "not a valid float"),
    ],
)
def test_a_wrong_command_exits_with_2(call, fake, script, words, says):
    done = call("run", script, *words)
    assert done.exit_code == 2 and says in done.stderr
    assert not fake.requests["Execute"]


def test_a_failing_platform_exits_with_3_and_a_sentence(call, fake, script, failure):
    fake.failures["CreateSession"] = [
        failure(grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_CAPACITY, "Full.")
    ]
    done = call("run", script)
    assert (done.exit_code, done.stderr) == (3, "Full. Do better.\n")


def test_no_key_is_said(call, script):
    done = CliRunner().invoke(main, ["run", script, "--url", "unix:///nowhere"], env={})
    assert done.exit_code == 3 and "GROTTO_API_KEY" in done.stderr


def test_sessions_ls(call, fake):
    fake.limits.memory_bytes = 5
    done = call("sessions", "ls")
    assert done.exit_code == 0
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ID", "a", "b"}
    listed = json.loads(call("sessions", "ls", "--json").stdout)
    assert {info["id"] for info in listed} == {"a", "b"}
    assert listed[0]["limits"]["memory"] == 5


def test_sessions_show_escapes_what_a_sandbox_says(call, fake):
    whole = fake.session()
    whole.isolation.layers.append("[red]evil\x1b[2J\u202e")
    fake.session = lambda session_id: whole
    done = call("sessions", "show", "s-1")
    assert done.exit_code == 0
    assert "[red]evil\\x1b[2J\\u202e" in done.stdout


def test_sessions_rm(call, fake, failure):
    assert call("sessions", "rm", "a", "b").exit_code == 0
    assert [request.session_id for request in fake.requests["CloseSession"]] == ["a", "b"]
    gone = failure(grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_NOT_FOUND, "None such.")
    fake.failures["CloseSession"] = [gone]
    assert call("sessions", "rm", "c").exit_code == 3


def test_sessions_need_a_server():
    done = CliRunner().invoke(main, ["sessions", "ls"], env={"GROTTO_URL": ""})
    assert done.exit_code == 2 and "GROTTO_URL" in done.stderr


def test_policy_check(call, tmp_path):
    bad, good, torn = (tmp_path / name for name in ("bad.py", "good.py", "torn.py"))
    bad.write_text("x = 1\nimport subprocess\n")
    good.write_text("x = 1\n")
    torn.write_text("def (")
    refused = call("policy", "check", str(bad))
    assert refused.exit_code == 1 and f"{bad}:2:" in refused.stdout
    assert json.loads(call("policy", "check", str(bad), "--json").stdout)[0]["line"] == 2
    assert call("policy", "check", str(good)).exit_code == 0
    assert call("policy", "check", str(bad), "--policy", "open").exit_code == 0
    assert call("policy", "check", str(bad), "--policy", "lax").exit_code == 2
    assert "cannot be parsed" in call("policy", "check", str(torn)).stderr


def test_shell_reads_whole_statements(call, fake, finished):
    fake.batches = [[Event(stdout=b"1\n"), finished()], [finished()], [finished()]]
    lines = "print(1)\nfor n in range(2):\n    n\n\nawait f()\n"
    done = call("shell", input=lines)
    assert done.exit_code == 0, done.stderr
    sources = [request.spec.source for request in fake.requests["Execute"]]
    assert sources == ["print(1)", "for n in range(2):\n    n\n", "await f()"]
    assert len(fake.requests["CloseSession"]) == 1


def test_shell_leaves_an_attached_session_running(call, fake):
    assert call("shell", "--attach", "s-1", input="").exit_code == 0
    assert not fake.requests["CloseSession"]


def test_every_command_explains_itself():
    done = CliRunner().invoke(main, ["--help"])
    for word in ("demo", "doctor", "keys", "policy", "run", "serve", "sessions", "shell"):
        assert word in done.stdout
