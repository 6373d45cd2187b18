"""The embedded control plane: a child process on a private unix socket, gone with its parent.

The child's standard input is its lease: the kernel closes it when this process ends,
however it ends, and the child then ends its sandboxes and itself. A `fork()` of this
process holds the lease too, for as long as it lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections import deque
from pathlib import Path

from grotto._printable import printable
from grotto.errors import InvalidArgumentError, UnavailableError

READY_DEADLINE_S = 60.0
STOP_GRACE_S = 10.0
_BACKENDS = ("auto", "local", "docker")
_SERVER = ("sqlalchemy", "structlog", "prometheus_client", "grpc_health")
_SANDBOX = ("IPython",)
_PREFIX = "grotto-local-"
_LOCK = "owner.lock"
_MAX_DIRECTORY_CHARS = 40
_TAIL_LINES = 20
_MAX_LINE_BYTES = 64 * 1024


class Embedded:
    """A running embedded control plane: its `url`, its `api_key`, and how to end it."""

    def __init__(self, process: asyncio.subprocess.Process, home: _Home, api_key: str) -> None:
        self.url = ""
        self.api_key = api_key
        self._process = process
        self._home = home
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._reader = asyncio.create_task(self._read_log())

    @classmethod
    async def start(cls, backend: str) -> Embedded:
        """Starts one and waits until it serves; raises UnavailableError with its last words."""
        if backend not in _BACKENDS:
            raise InvalidArgumentError(f"backend={backend!r}: use one of {', '.join(_BACKENDS)}.")
        if backend == "docker":
            check_server_installed()
        else:
            check_installed()
        home = await asyncio.to_thread(_Home.make)
        embedded: Embedded | None = None
        try:
            embedded = cls(await _spawn(home.path, backend), home, _new_key())
            async with asyncio.timeout(READY_DEADLINE_S):
                await embedded._hand_over()
        except BaseException as error:
            if embedded is None:
                home.remove()
                raise
            await embedded.stop()
            if isinstance(error, (TimeoutError, _NotReadyError)):
                raise embedded._failure() from error
            raise
        return embedded

    def gone(self) -> str | None:
        """Returns a sentence once the process has ended, else None."""
        if self._process.returncode is None:
            return None
        return f"The embedded control plane has ended.{self._last_words()}"

    async def stop(self) -> None:
        """Closes the lease, waits for the end, kills after a grace time, removes the directory."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._reader.cancel()
        self._home.remove()  # here: at interpreter exit no other thread can be started

    async def _hand_over(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"api_key": self.api_key}).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await stdin.drain()
        try:
            said = json.loads(await stdout.readline())
            self.url = str(said["url"])
        except (ValueError, KeyError, TypeError) as error:
            raise _NotReadyError from error

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line over the limit
                continue
            if not line:
                return
            self._tail.append(line.decode("utf-8", "replace").rstrip())

    def _failure(self) -> UnavailableError:
        return UnavailableError(
            f"The embedded control plane did not start.{self._last_words()}",
            hint="`grotto doctor` says what this machine offers.",
        )

    def _last_words(self) -> str:
        if not self._tail:
            return ""
        return " Its last words:\n" + printable("\n".join(self._tail), 4000) + "\n"


class _NotReadyError(Exception):
    """The child's first line is not the one it prints when it serves."""


class _Home:
    """A private directory, locked for as long as its owner lives."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def make(cls) -> _Home:
        base = Path(tempfile.gettempdir())
        if len(str(base)) > _MAX_DIRECTORY_CHARS:  # socket paths have 107 bytes
            base = Path("/tmp")  # noqa: S108 - mkdtemp makes it private
        _sweep(base)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(path, lock)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(base: Path) -> None:
    """Removes directories whose owner was killed before it could."""
    for path in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            info = path.lstat()
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
                continue
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def check_installed() -> None:
    """Raises UnavailableError unless what a control plane and a sandbox need is installed."""
    _check(_SERVER + _SANDBOX, "An embedded control plane", "grotto[local]")


def check_server_installed() -> None:
    """Raises UnavailableError unless what a control plane needs is installed.

    Its sandboxes may be containers, which bring their own packages.
    """
    _check(_SERVER, "A control plane", "grotto[server]")


def _check(needed: tuple[str, ...], what: str, extra: str) -> None:
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"{what} needs packages that are not installed: {', '.join(missing)}.",
            hint=f"Install them: pip install '{extra}'.",
        )


async def _spawn(home: Path, backend: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "grotto_control", "serve", "--lease", "--pool", "1"]
    command += ["--socket", str(home / "c.sock"), "--data-dir", str(home), "--backend", backend]
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_MAX_LINE_BYTES,
        start_new_session=True,
    )


def _new_key() -> str:
    return f"grotto_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
