"""What a hardened worker must still be able to do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grotto_worker.harden import Offer, apply_checker, apply_daemon, probe

PREFACE = """
import json, os, sys
from grotto_worker import harden
read, write, level = json.loads(sys.argv[1])
os.environ["TMPDIR"] = write
os.chdir(write)
applied = harden.apply_worker(harden.WorkerSpec(tuple(read), (write,), level=level,
                                                allow_sockets=level == "full"))
harden.scope_worker()
harden.limit_worker(1 << 30, None, 1)
"""

PROGRAMS = {
    "threads": """
import threading
t = threading.Thread(target=print, args=("done",)); t.start(); t.join()
""",
    "asyncio": """
import asyncio
async def main():
    process = await asyncio.create_subprocess_exec("/bin/echo", "done", stdout=-1)
    print((await process.communicate())[0].decode())
    await asyncio.to_thread(len, "x")
asyncio.run(main())
""",
    "subprocess": """
import subprocess
print(subprocess.check_output("echo done | cat", shell=True, text=True))
""",
    "sqlite": """
import sqlite3
c = sqlite3.connect("file.db"); c.execute("pragma journal_mode=wal")
c.execute("create table t(x)"); c.execute("insert into t values ('done')"); c.commit()
print(*c.execute("select x from t").fetchone())
""",
    "multiprocessing": """
import multiprocessing as m
context = m.get_context("fork"); a, b = context.Pipe()
p = context.Process(target=b.send, args=("done",)); p.start(); print(a.recv()); p.join()
""",
    "tempfile": """
import tempfile
with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile(dir=d) as f: f.write(b"x")
print("done")
""",
    "numpy": """
import numpy
print("done" if (numpy.random.rand(300, 300) @ numpy.eye(300)).shape else "")
""",
    "pandas": """
import pandas
pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_csv("f.csv")
print("done", pandas.read_csv("f.csv").shape)
""",
    "files": """
import os
os.makedirs("a/b"); open("a/f", "w").write("x"); os.rename("a/f", "a/b/f"); os.link("a/b/f", "a/g")
os.symlink("g", "a/s"); os.truncate("a/g", 0); os.mkfifo("a/p"); print("done")
""",
    "fork": "import os\nif os.fork() == 0: os._exit(0)\nos.wait(); print('done')",
}


@pytest.mark.parametrize("level", ["reduced", "full", "container"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_ordinary_programs_run(program: str, level: str, workspace: Path, arms: Any) -> None:
    if program in ("numpy", "pandas"):
        pytest.importorskip(program)
    done = subprocess.run(
        [sys.executable, "-c", PREFACE + PROGRAMS[program],
         json.dumps([arms.spec.read_paths, str(workspace), level])],
        capture_output=True, text=True, env={"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip().startswith("done"), done.stderr


def test_modes_may_be_changed_where_the_files_are_the_sandboxs_own(
    forked: Any, workspace: Path, arms: Any
) -> None:
    """Refused at "reduced" only, where the owner's other files are in reach."""
    from dataclasses import replace

    from grotto_worker.harden import apply_worker

    file = workspace / "f"
    file.touch()

    def at_full() -> None:
        apply_worker(replace(arms.spec, level="full"))

    assert forked(lambda: os.chmod(file, 0o700), at_full).worked
    assert not forked(lambda: os.chmod(file, 0o700), arms.worker).worked


def test_the_checker_parses_and_can_do_nothing_else(forked: Any, workspace: Path) -> None:
    import ast
    import socket

    assert forked(lambda: len(ast.dump(ast.parse("x = 1"))) > 0, apply_checker).value is True
    for attack in (
        lambda: (workspace / "x").write_text("x"),
        lambda: socket.socket(socket.AF_INET).close(),
        lambda: os.listdir("/"),
    ):
        assert forked(attack, lambda: None).worked
        assert not forked(attack, apply_checker).worked


def test_the_daemon_still_serves_and_supervises(forked: Any, workspace: Path) -> None:
    import asyncio
    import signal
    import socket

    async def serve() -> str:
        path = str(workspace / "s")
        server = await asyncio.start_unix_server(lambda r, w: w.close(), path)
        reader, writer = await asyncio.open_unix_connection(path)
        await reader.read()
        writer.close()
        server.close()
        os.close(os.memfd_create("payload"))
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1)
        process.send_signal(signal.SIGKILL)
        return str(await process.wait())

    assert forked(lambda: asyncio.run(serve()), apply_daemon).value == "-9"
    assert forked(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()).worked
    assert not forked(
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(), apply_daemon
    ).worked


def test_the_daemons_server_runs_under_its_filter(workspace: Path) -> None:
    pytest.importorskip("grpc")
    program = """
import os
from grotto_worker import harden
assert "seccomp" in harden.apply_daemon()
import asyncio, grpc
async def main():
    server = grpc.aio.server()
    server.add_insecure_port("unix:s")
    await server.start()
    async with grpc.aio.insecure_channel("unix:s") as channel:
        await channel.channel_ready()
        try:
            await channel.unary_unary("/none/None")(b"")
        except grpc.aio.AioRpcError as error:
            print(error.code().name)
    await server.stop(None)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=workspace, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.strip() == "UNIMPLEMENTED", done.stderr


def test_the_probe_tells_what_was_tried_and_leaves_the_caller_alone() -> None:
    before = os.stat("/proc/self/ns/user").st_ino
    offer = probe()
    assert os.stat("/proc/self/ns/user").st_ino == before
    assert offer == Offer(**json.loads(offer.as_json()))
    assert offer.user_namespaces == (offer.user_namespaces_obstacle == "")
    assert offer.is_root == (os.geteuid() == 0)


def test_the_probe_sees_that_namespaces_are_refused(forked: Any) -> None:
    """Under a filter that refuses unshare, as in a container, it has to say so."""
    obstacle = forked(lambda: probe().user_namespaces_obstacle, apply_daemon).value
    assert "user namespaces" in obstacle
