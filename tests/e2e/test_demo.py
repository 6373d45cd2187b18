"""The main job: the demo, the quick start, embedded and against a server."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import grotto
from grotto import demo
from grotto.agent import ScriptedModel

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart.py"


def test_the_demo_passes_every_check():
    done = subprocess.run(
        [sys.executable, "-m", "grotto.cli", "demo"],
        env={**os.environ, "GROTTO_URL": "", "GROTTO_MODEL": ""},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 7 and "✗" not in done.stdout
    assert "scripted model" in done.stdout and "pandas.DataFrame" in done.stdout


def test_the_demo_notices_a_wrong_answer():
    wrong = ScriptedModel(["```python\nby_region = sales.head()\n```", "It is Atlantis."])
    said: list[str] = []
    with grotto.local() as client:
        assert not demo.run(client, said.append, wrong)
    failed = [line for line in said if line.startswith("✗")]
    assert len(failed) == 3  # the name, the table, and its length after the crash


def test_the_quick_start_embedded():
    _quickstart({"GROTTO_URL": ""})


@pytest.mark.parametrize("backend", ["local", "docker"])
def test_the_quick_start_against_a_server(tmp_path, backend, request):
    if backend == "docker":
        request.getfixturevalue("docker_engine")
    home = {**os.environ, "GROTTO_DATA_DIR": str(tmp_path / "data")}
    create = [sys.executable, "-m", "grotto.cli", "keys", "create", "--tenant", "acme", "--json"]
    made = subprocess.run(create, env=home, capture_output=True, check=True, timeout=60)
    with subprocess.Popen(
        [sys.executable, "-m", "grotto.cli", "serve", "--bind", "127.0.0.1:0", "--pool", "1"],
        env={**home, "GROTTO_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            url = json.loads(server.stdout.readline())["url"]
            key = json.loads(made.stdout)["api_key"]
            _quickstart({"GROTTO_URL": url, "GROTTO_API_KEY": key})
        finally:
            server.terminate()
            server.wait(60)


def _quickstart(env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(QUICKSTART)],
        env={**os.environ, "GROTTO_MODEL": "", **env},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 5 and "✗" not in done.stdout


PARENT = """
import os, sys, grotto
client = grotto.local()
session = client.session()
session.execute("x = 1").raise_if_failed()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_an_embedded_server_ends_with_its_parent_however_that_ends(number):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout.readline() == b"ready\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        assert any("grotto_control" in " ".join(child.cmdline()) for child in family)
        parent.send_signal(number)
        parent.wait(20)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    grotto.local().close()  # the next one sweeps away what the killed one could not


def test_a_program_that_forgets_to_close_leaves_nothing(tmp_path):
    program = 'import grotto\ns = grotto.local().session()\nprint(s.execute("6 * 7").result)'
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


def test_a_control_plane_that_does_not_start_says_why(monkeypatch, tmp_path):
    (tmp_path / "grotto_control").mkdir()
    (tmp_path / "grotto_control" / "__init__.py").touch()
    (tmp_path / "grotto_control" / "__main__.py").write_text("raise SystemExit('out of luck')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(grotto.UnavailableError, match="out of luck"):
        grotto.local()


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(grotto.UnavailableError, match=r"sqlalchemy.*grotto\[local\]"):
        grotto.local()
