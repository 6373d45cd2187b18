"""The control planes the rows measure: embedded ones as they come, and ones with options."""

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grotto
from benchmarks.engine import IMAGES, engine

Backend = Literal["local", "docker"]

END_S = 180.0
"""For a server to end all its sandboxes; a hundred containers take a while."""


@contextmanager
def embedded(backend: Backend) -> Iterator[grotto.Client]:
    """`grotto.local()`; raises Absent where the backend cannot be."""
    _check(backend)
    with closing(grotto.local(backend=backend)) as client:
        yield client


@dataclass(frozen=True)
class Served:
    """A running control plane with options of its own."""

    client: grotto.Client
    pid: int
    data_dir: Path

    def server_id(self) -> str:
        """By which the engine knows its containers."""
        return str(json.loads((self.data_dir / "identity.json").read_text())["server_id"])


@contextmanager
def serving(backend: Backend, *options: str, image: str = "data") -> Iterator[Served]:
    """Starts `serve` with these options; it and its sandboxes end with the block."""
    _check(backend)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grotto-bench-")))
        command = _command(backend, home, image, options)
        process = stack.enter_context(_started(command, home / "log"))
        key = f"grotto_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
        url = _ready(process, key, home / "log")
        client = stack.enter_context(closing(grotto.connect(url, key)))
        yield Served(client, process.pid, home)


def _check(backend: Backend) -> None:
    if backend == "docker":
        with engine():
            pass


def _command(backend: Backend, folder: Path, image: str, options: tuple[str, ...]) -> list[str]:
    command = [sys.executable, "-m", "grotto_control", "serve", "--lease", "--backend", backend]
    command += ["--data-dir", str(folder), "--socket", str(folder / "c.sock")]
    return [*command, "--image", f"{image}={IMAGES[image]}", *options]


@contextmanager
def _started(command: list[str], log: Path) -> "Iterator[subprocess.Popen[str]]":
    """Runs a process whose standard input is its lease."""
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdin
        try:
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _ready(process: "subprocess.Popen[str]", key: str, log: Path) -> str:
    """Hands over the key, and returns the URL once it serves."""
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps({"api_key": key}) + "\n")
    process.stdin.flush()
    said = process.stdout.readline()
    if not said:
        raise RuntimeError(f"the control plane did not start: {log.read_text()[-300:]}")
    return str(json.loads(said)["url"])
