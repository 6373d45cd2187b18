"""An engine of the tests' own, which they may stop, kill, pause, fill and start again.

It lives in one folder below the run's temporary one, on a tmpfs of its own size, with its
own containerd and its own cgroup, and takes all of that along when it is removed.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from docker_engine import without
from leaks import KEEPER

IMAGE = "grotto-sandbox:bare"
SIZE_MIB = 1024
DEADLINE_S = 60.0
POLL_S = 0.05
CGROUPS = Path("/sys/fs/cgroup")
_KEEPER = """
import ctypes, json, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, <linux/prctl.h>
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whatever ends here is reaped
usual = lambda: signal.signal(signal.SIGCHLD, signal.SIG_DFL)
for line in sys.stdin:
    print(subprocess.Popen(json.loads(line), preexec_fn=usual).pid, flush=True)
"""
"""The parent of the engine and of its orphans; what it started is no leak of a test."""


class SecondEngine:
    """A dockerd with `IMAGE` in it; `remove` it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="e"))
        self.host = f"unix://{self.folder}/d.sock"
        self.cgroup = f"grotto-{self.folder.parent.name}-{self.folder.name}"
        self._data = self.folder / "data"
        self._data.mkdir()
        _mount_tmpfs(self._data, SIZE_MIB)
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process: psutil.Process | None = None

    def start(self, live_restore: bool = True) -> None:
        """Returns when it answers."""
        words = [
            "--data-root", str(self._data), "--exec-root", f"{self.folder}/x",
            "--pidfile", f"{self.folder}/pid", "--host", self.host, "--bridge=none",
            "--iptables=false", f"--live-restore={str(live_restore).lower()}",
            f"--cgroup-parent=/{self.cgroup}",
        ]  # fmt: skip
        # In a network of its own: it would take the first engine's bridge away.
        script = f'exec unshare --net dockerd "$@" </dev/null >>{self.folder}/log 2>&1'
        assert self._keeper.stdin and self._keeper.stdout
        print(json.dumps(["sh", "-c", script, "sh", *words]), file=self._keeper.stdin, flush=True)
        self._process = psutil.Process(int(self._keeper.stdout.readline()))
        until(self._answers, lambda: f"the second engine did not start:\n{self.log()}")

    def load_image(self) -> None:
        """Copies `IMAGE` from the first engine."""
        with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saved:
            loading = ["docker", "--host", self.host, "load", "--quiet"]
            subprocess.run(loading, stdin=saved.stdout, check=True, capture_output=True)

    def docker(self, *words: str) -> str:
        """Returns what the command printed; AssertionError with its complaint."""
        done = subprocess.run(
            ["docker", "--host", self.host, *words], capture_output=True, text=True
        )
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def containers(self, *words: str) -> list[str]:
        return self.docker("ps", "--all", "--quiet", "--no-trunc", *words).split()

    def volumes(self) -> list[str]:
        return self.docker("volume", "ls", "--quiet").split()

    def is_empty(self) -> bool:
        return not self.containers() and not self.volumes()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it, and not what runs in it unless the engine does."""
        assert self._process is not None
        process, self._process = self._process, None
        own = [process, *process.children(recursive=True)]
        process.send_signal(number)
        until(lambda: not any(map(_is_alive, own)), self.log)
        for name in ("pid", "x/containerd/containerd.pid"):  # a killed one leaves them
            (self.folder / name).unlink(missing_ok=True)

    def pause(self) -> None:
        """Has it take calls and answer none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.go_on()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leaves no space for anything new."""
        ballast = self._data / "ballast"
        try:
            with ballast.open("wb") as file, suppress(OSError):
                while True:
                    file.write(b"\0" * 2**20)
                    file.flush()
            yield
        finally:
            ballast.unlink()

    def set_limit(self, controller: str, name: str, value: str) -> None:
        """Of all its containers together, in either version of the cgroups."""
        old = CGROUPS / controller / self.cgroup
        (old if old.is_dir() else CGROUPS / self.cgroup).joinpath(name).write_text(value)

    def log(self) -> str:
        return (self.folder / "log").read_text()[-3000:]

    def clear(self) -> None:
        """Removes every container and volume, and starts again with live-restore.

        A volume that a restart with live-restore found in use can be removed after another
        restart only (moby issue 44422).
        """
        if found := self.containers():
            self.docker("rm", "--force", "--volumes", *found)
        self.stop()
        self.start()
        if left := self.volumes():
            self.docker("volume", "rm", *left)
        # An engine that was paused or stopped in the midst of its own cleaning up forgets some.
        self._unmount_below(self._data / "volumes")

    def remove(self) -> None:
        if self._process is not None:
            with suppress(AssertionError):  # it may be what does not work; mounts are ended below
                self.clear()
            self.stop()
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                if any(f"{self.folder}/x/" in word for word in process.cmdline()):
                    _kill(process)
        self._keeper.communicate()
        self._unmount_below(self.folder)
        shutil.rmtree(self.folder)
        for place in (CGROUPS / self.cgroup, *CGROUPS.glob(f"*/{self.cgroup}")):
            for inner in sorted(place.rglob("*/"), reverse=True):
                with suppress(OSError):
                    inner.rmdir()
            with suppress(OSError):
                place.rmdir()

    def _unmount_below(self, folder: Path) -> None:
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith(f"{folder}/"):
                _unmount(place)

    def _answers(self) -> bool:
        asked = ["docker", "--host", self.host, "version"]
        return subprocess.run(asked, capture_output=True).returncode == 0


@contextmanager
def second_engine() -> Iterator[SecondEngine]:
    """A running one with the image in it, live-restore on."""
    if os.geteuid() != 0:
        without("a second engine needs root")
    if shutil.which("dockerd") is None:
        without("there is no dockerd command")
    engine = SecondEngine()
    try:
        engine.start()
        engine.load_image()
        yield engine
    finally:
        engine.remove()


@pytest.fixture(scope="module")
def own_engine(docker_engine: object) -> Iterator[SecondEngine]:
    """One for the tests of a module; each leaves it running and empty."""
    with second_engine() as engine:
        yield engine


def until(condition: Callable[[], object], complaint: Callable[[], str] = lambda: "never") -> None:
    """Returns when it is true; fails when it stays false."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, complaint()
        time.sleep(POLL_S)


def _kill(shim: psutil.Process) -> None:
    """What still runs has lost its engine."""
    for process in (*shim.children(recursive=True), shim):
        process.kill()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _mount_tmpfs(place: Path, size_mib: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size_mib}m,mode=0711".encode()
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, options):
        without(f"no file system can be mounted here: {os.strerror(ctypes.get_errno())}")


def _unmount(place: str) -> None:
    detach = 2  # MNT_DETACH, <sys/mount.h>
    ctypes.CDLL(None).umount2(os.fsencode(place), detach)
