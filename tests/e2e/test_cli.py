"""The commands a user types, each as a process, against a real server."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

GROTTO = [sys.executable, "-m", "grotto.cli"]


def call(*words: str, env: dict[str, str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GROTTO, *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def served(data_dir: Path) -> Iterator[dict[str, str]]:
    """`grotto serve` with a key made by `grotto keys create`: the environment of a client."""
    home = {"GROTTO_DATA_DIR": str(data_dir)}
    made = call("keys", "create", "--tenant", "acme", "--json", env=home)
    assert made.returncode == 0, made.stderr
    with subprocess.Popen(
        [*GROTTO, "serve", "--bind", "127.0.0.1:0", "--pool", "1"],
        env={**os.environ, **home},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            ready = json.loads(server.stdout.readline())
            yield {"GROTTO_URL": ready["url"], "GROTTO_API_KEY": json.loads(made.stdout)["api_key"]}
        finally:
            server.terminate()
            assert server.wait(60) == 0


def test_run_with_objects_in_and_out(served, tmp_path):
    (tmp_path / "sales.csv").write_text("region,revenue\nNorth,1\nSouth,2\nNorth,3\n")
    job = tmp_path / "job.py"
    job.write_text("total = sales.groupby('region').revenue.sum().to_dict()\nprint(total)\n")
    done = call(
        "run", str(job), "--inject", f"sales={tmp_path}/sales.csv",
        "--retrieve", f"total={tmp_path}/total.json", env=served,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'North': 4, 'South': 2}\n"
    assert json.loads((tmp_path / "total.json").read_text()) == {"North": 4, "South": 2}


def test_code_that_fails_exits_with_1_and_a_traceback_of_its_own(served, tmp_path):
    job = tmp_path / "job.py"
    job.write_text("x = 0\n1 / x\n")
    done = call("run", str(job), env=served)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "grpc" not in done.stderr


def test_refused_code_exits_with_1_and_hints(served, tmp_path):
    job = tmp_path / "job.py"
    job.write_text("import subprocess\n")
    done = call("run", str(job), "--json", env=served)
    assert done.returncode == 1
    assert json.loads(done.stdout)["violations"][0]["hint"]


def test_a_wrong_key_is_a_sentence(served, tmp_path):
    wrong = {**served, "GROTTO_API_KEY": "grotto_00000000_" + "x" * 43}
    done = call("sessions", "ls", env=wrong)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_revoked_key_is_no_key(served, data_dir):
    home = {"GROTTO_DATA_DIR": str(data_dir)}
    made = json.loads(call("keys", "create", "--tenant", "acme", "--json", env=home).stdout)
    mine = {**served, "GROTTO_API_KEY": made["api_key"]}
    assert call("sessions", "ls", "--json", env=mine).returncode == 0
    assert made["key_id"] in call("keys", "ls", env=home).stdout
    assert call("keys", "revoke", made["key_id"], env=home).returncode == 0
    deadline_s = time.monotonic() + 30  # the server remembers a good key for some seconds
    while call("sessions", "ls", "--json", env=mine).returncode != 3:
        assert time.monotonic() < deadline_s


def test_sessions_are_listed_shown_and_removed(served):
    import grotto

    with grotto.connect(served["GROTTO_URL"], served["GROTTO_API_KEY"]) as client:
        session = client.session(labels={"who": "test"})
        listed = json.loads(call("sessions", "ls", "--json", env=served).stdout)
        assert [info["labels"] for info in listed if info["id"] == session.id] == [{"who": "test"}]
        assert session.id in call("sessions", "show", session.id, env=served).stdout
        assert call("sessions", "rm", session.id, env=served).returncode == 0
        assert call("sessions", "show", session.id, env=served).returncode == 3
        with pytest.raises(grotto.NotFoundError):
            session.execute("1")


def test_shell(served):
    typed = "x = 20\nfor n in range(2):\n    x += n\n\nx\nimport subprocess\n"
    done = call("shell", env=served, input=typed)
    assert done.returncode == 0, done.stderr
    assert "21" in done.stdout and "subprocess" in done.stderr


def test_doctor_says_what_this_machine_offers():
    done = call("doctor", "--json", env={})
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == bool(report["level"])
    told = call("doctor", env={})
    assert told.returncode == done.returncode and "level" in told.stdout


def test_nobody_there_is_a_sentence(tmp_path):
    nobody = {"GROTTO_URL": f"unix://{tmp_path}/none.sock", "GROTTO_API_KEY": "k"}
    done = call("sessions", "ls", env=nobody)
    assert done.returncode == 3
    assert "no answer" in done.stderr and "Traceback" not in done.stderr
