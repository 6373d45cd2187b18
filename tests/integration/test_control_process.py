"""`python -m grotto_control` as a process, with sandboxes of this host."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fakes.control import Client, short_folder

from grotto_control.core.keys import new_key

COMMAND = (sys.executable, "-m", "grotto_control")


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with short_folder() as path:
        path.chmod(0o711)
        yield path


class Served:
    """A server process; `ready` is its first line."""

    def __init__(self, folder: Path, *options: str, stdin: str | None = None) -> None:
        words = [*COMMAND, "serve", "--data-dir", str(folder / "data"), *options]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.flush()
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return status


@contextmanager
def served(folder: Path, *options: str, stdin: str | None = None) -> Iterator[Served]:
    server = Served(folder, *options, stdin=stdin)
    try:
        yield server
    finally:
        server.end()


@asynccontextmanager
async def client_of(server: Served, key: str) -> AsyncIterator[Client]:
    target = server.ready["url"].removeprefix("grpc://").replace("unix://", "unix:")
    async with grpc.aio.insecure_channel(target) as channel:
        client = Client(channel, key)
        yield client
        vars(client).clear()


async def printed(client: Client, session_id: str, source: str, execution_id: str) -> bytes:
    events = await client.run(session_id, source, execution_id)
    return b"".join(event.stdout for event in events)


def keys(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "keys", *words, "--data-dir", str(folder / "data")],
        capture_output=True,
        text=True,
        check=False,
    )


def made_key(folder: Path, tenant: str = "ada") -> str:
    made = keys(folder, "create", "--tenant", tenant, "--json")
    assert made.returncode == 0, made.stderr
    key: str = json.loads(made.stdout)["api_key"]
    return key


def sandbox_pids(folder: Path) -> list[int]:
    notes = (folder / "data" / "sandboxes").glob("*/process")
    pids = (json.loads(note.read_text())["pid"] for note in notes)
    return [pid for pid in pids if pid]  # 0 while it starts


async def test_serve_execute_and_end(folder: Path) -> None:
    with served(
        folder, "--bind", "127.0.0.1:0", "--pool", "0", "--metrics-bind", "127.0.0.1:0"
    ) as server:
        assert server.ready["ready"] is True and server.ready["pid"] == server.process.pid
        assert server.ready["metrics_url"].startswith("http://127.0.0.1:")
        key = made_key(folder)  # while the server runs
        async with client_of(server, key) as ada:
            session = await ada.create()
            assert session.isolation.backend == "local"
            assert session.isolation.level in ("full", "reduced")
            assert await printed(ada, session.id, "print(6 * 7)", "e1") == b"42\n"
            await ada.close(session.id)
        assert sandbox_pids(folder) == []
        assert server.end() == 0


async def test_a_second_tenant_of_local_is_refused_unless_the_test_lifts_it(folder: Path) -> None:
    for options, code in (
        ((), grpc.StatusCode.PERMISSION_DENIED),
        (("--allow-shared-local",), None),
    ):
        socket = str(folder / "s")
        with served(folder, "--socket", socket, "--pool", "0", *options) as server:
            async with (
                client_of(server, made_key(folder, "ada")) as ada,
                client_of(server, made_key(folder, "bob")) as bob,
            ):
                first = await ada.create()
                try:
                    await bob.close((await bob.create()).id)
                    found = None
                except grpc.aio.AioRpcError as error:
                    found = error.code()
                assert found is code
                await ada.close(first.id)


async def test_a_killed_server_finds_its_sessions_again(folder: Path) -> None:
    options = ("--socket", str(folder / "s"), "--pool", "0")
    key = made_key(folder)
    with served(folder, *options) as server:
        async with client_of(server, key) as ada:
            session = await ada.create(policy="open")
            await printed(ada, session.id, "import os; g = iter(range(9)); next(g)", "e1")
            before = await printed(ada, session.id, "print(os.getpid())", "e2")
        server.end(signal.SIGKILL)
    with served(folder, *options) as server:
        async with client_of(server, key) as ada:
            try:
                assert await printed(ada, session.id, "print(os.getpid())", "e3") == before != b""
                assert await printed(ada, session.id, "print(next(g))", "e4") == b"1\n"
            finally:
                await ada.close(session.id)


async def test_embedded_ends_with_its_lease_and_leaves_nothing(folder: Path) -> None:
    key = new_key()
    line = json.dumps({"api_key": key}) + "\n"
    options = ("--socket", str(folder / "s"), "--pool", "1", "--lease")
    with served(folder, *options, stdin=line) as server:
        async with client_of(server, key) as ada:
            session = await ada.create()
            assert await ada.run(session.id, "1")
            pids = sandbox_pids(folder)
        assert pids and server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(30) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_embedded_sandboxes_end_when_their_server_is_killed(folder: Path) -> None:
    key = new_key()
    line = json.dumps({"api_key": key}) + "\n"
    options = ("--socket", str(folder / "s"), "--pool", "0", "--lease")
    with served(folder, *options, stdin=line) as server:
        async with client_of(server, key) as ada:
            await ada.create()
            pids = sandbox_pids(folder)
        assert pids
        server.end(signal.SIGKILL)
    async with asyncio.timeout(15):
        while any(_lives(pid) for pid in pids):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--bind", "0.0.0.0:0"), "can be reached from other hosts"),
        (("--bind", "nonsense"), "give HOST:PORT"),
        (("--socket", "/tmp/" + "x" * 120), "at most 100 bytes"),
        (("--bind", "127.0.0.1:0", "--lease"), "first line of standard input"),
        (("--max-sessions", "0"), "--max-sessions"),
        (("--tenant-sessions", "-1"), "--tenant-sessions"),
        (("--backend", "podman"), "--backend"),
        (("--docker-host", "tcp://127.0.0.1:2375"), "give unix:///path/to/socket"),
        (("--image", "Data=x"), "give NAME=REFERENCE"),
        (("--image", "data"), "give NAME=REFERENCE"),
    ],
)
def test_what_is_refused_is_said_in_a_sentence_with_status_2(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    run = subprocess.run(
        [*COMMAND, "serve", "--data-dir", str(tmp_path / "data"), *options],
        input="\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr
    assert run.stdout == ""


def test_keys_are_listed_and_revoked_and_shown_once(tmp_path: Path) -> None:
    key = made_key(tmp_path)
    listed = keys(tmp_path, "ls", "--json")
    record = json.loads(listed.stdout)
    assert record["tenant"] == "ada" and key not in listed.stdout
    assert keys(tmp_path, "revoke", record["key_id"]).returncode == 0
    assert json.loads(keys(tmp_path, "ls", "--json").stdout)["revoked_s"] is not None
    unknown = keys(tmp_path, "revoke", "\x1b[31m")
    assert unknown.returncode == 2 and "\x1b" not in unknown.stderr
    refused = keys(tmp_path, "create", "--tenant", "No Such")
    assert refused.returncode == 2 and "tenant" in refused.stderr


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
