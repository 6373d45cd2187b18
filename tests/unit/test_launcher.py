"""How a sandbox is told what it is: over standard streams or over the launch socket."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from grotto_runtime.launcher import Launcher, NobodyLaunched, await_launcher

CONFIG = {
    "sandbox_id": "s", "token": "t", "run_dir": "/run/grotto", "workspace": "/workspace",
    "isolation": "container", "uid": None, "disk_bytes": 1, "inodes": 0, "preload": [],
    "lease": False, "orphan_grace_s": 1.0,
}  # fmt: skip


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder for sockets; the temporary one's path may be too long for an address."""
    path = os.path.join(os.environ["TMPDIR"], "launcher")
    os.mkdir(path)
    yield path
    os.rmdir(path)  # fails when a socket is left in it


def test_the_socket_is_gone_when_nobody_came(folder: str) -> None:
    with pytest.raises(NobodyLaunched, match=r"nobody connected to .*launch\.sock within 0\.05 s"):
        await_launcher(folder, connect_s=0.05)
    assert os.listdir(folder) == []


def launched(folder: str, sent: bytes) -> tuple[Launcher, socket.socket]:
    """A launcher over a socket whose other end has sent something."""
    found: list[Launcher] = []
    waiting = threading.Thread(target=lambda: found.append(await_launcher(folder, connect_s=5)))
    waiting.start()
    other = socket.socket(socket.AF_UNIX)
    while True:
        try:
            other.connect(f"{folder}/launch.sock")
            break
        except (FileNotFoundError, ConnectionRefusedError):
            assert waiting.is_alive()
    other.sendall(sent)
    waiting.join()
    return found[0], other


def test_configuration_and_answer_travel_by_one_connection(folder: str) -> None:
    launcher, other = launched(folder, json.dumps(CONFIG).encode() + b"\n")
    assert os.listdir(folder) == []
    assert launcher.config().sandbox_id == "s"
    launcher.tell({"ready": True})
    assert other.recv(100) == b'{"ready": true}\n'
    launcher.release(leased=False)
    assert other.recv(1) == b""
    other.close()
    os.close(launcher.ready_fd)


def test_a_lease_keeps_the_connection_open(folder: str) -> None:
    launcher, other = launched(folder, json.dumps(CONFIG).encode() + b"\n")
    launcher.config()
    launcher.release(leased=True)
    launcher.tell({"still": "there"})
    assert other.recv(100) == b'{"still": "there"}\n'
    other.close()
    launcher.tell({"nobody": "listens"})  # and that is no error
    os.close(launcher.lease_fd)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"", "no launch configuration came"),
        (b"{}", "no launch configuration came"),
        (b"x" * 70_000, "no launch configuration came"),
        (b"not json\n", "is not as agreed"),
        (json.dumps({**CONFIG, "token": 1}).encode() + b"\n", "is not as agreed"),
        (json.dumps({**CONFIG, "surprise": 1}).encode() + b"\n", "is not as agreed"),
    ],
)
def test_what_is_no_configuration_is_refused_in_words(
    sent: bytes, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "sent"
    file.write_bytes(sent)
    descriptor = os.open(file, os.O_RDONLY)
    with pytest.raises(SystemExit, match=sentence):
        Launcher(descriptor, descriptor).config()
    os.close(descriptor)
