"""A server that is killed and started again: sessions go on where they were."""

import signal
import subprocess
import sys

import pytest

import grotto

SETUP = """
import os, sqlite3
database = sqlite3.connect(":memory:")
database.execute("create table t (n)")
database.execute("insert into t values (7)")
generator = (n for n in range(100))
next(generator), next(generator)
os.getpid()
"""


def test_a_killed_server_finds_its_sessions_again(server):
    key = server.key("acme")
    with grotto.connect(server.url, key) as client:
        with client.session(policy="open") as session:
            worker = session.execute(SETUP).result
            server.stop(signal.SIGKILL)
            server.start()
            assert session.execute("os.getpid()").result == worker
            assert session.execute("next(generator)").result == "2"
            assert (
                session.execute("database.execute('select n from t').fetchall()").result == "[(7,)]"
            )
            assert session.retrieve("_") == [(7,)]
        assert client.sessions() == []


def test_an_execution_that_outlived_the_server_is_asked_for_again(server):
    with grotto.connect(server.url, server.key("acme")) as client, client.session() as session:
        session.execute("n = 0")
        events = session.stream(
            "n += 1\nprint('on')\nimport time\ntime.sleep(2)\nn", execution_id="long"
        )
        assert isinstance(next(events), grotto.Stdout)
        server.stop(signal.SIGKILL)
        server.start()
        assert session.execution("long").result == "1"
        assert session.execute("n").result == "1"


def test_a_session_whose_sandbox_died_with_the_server_is_lost_and_says_so(server):
    with grotto.connect(server.url, server.key("acme")) as client:
        session = client.session()
        server.stop(signal.SIGKILL)
        for process in sandboxes(server):
            subprocess.run(["kill", "-9", process], check=True)
        server.start()
        with pytest.raises(grotto.SessionLostError):
            session.execute("1")
        session.close()


def test_a_server_that_is_asked_to_stop_ends_well_and_its_sessions_go_on(server):
    with grotto.connect(server.url, server.key("acme")) as client, client.session() as session:
        session.execute("x = 41")
        assert server.stop(signal.SIGTERM) == 0
        server.start()
        assert session.execute("x + 1").result == "42"


def test_a_second_server_on_the_same_data_is_refused(server):
    second = subprocess.run(
        [sys.executable, "-m", "grotto_control", "serve", "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode != 0
    assert "data directory" in second.stderr or str(server.data_dir) in second.stderr


def test_a_revoked_key_no_longer_opens_anything(server):
    key = server.key("acme")
    server.run("keys", "revoke", key.split("_")[1])
    with grotto.connect(server.url, key) as client, pytest.raises(grotto.AuthenticationError):
        client.sessions()


def sandboxes(server) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", FIND, str(server.data_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


FIND = """
import json, pathlib, sys
for file in pathlib.Path(sys.argv[1]).glob("sandboxes/*/process"):
    pid = json.loads(file.read_text())["pid"]
    if pid:  # 0 while it starts: to kill, that is the whole process group of these tests
        print(pid)
"""
