"""Starts the launcher of a sandbox and reads the two lines it answers with.

The launcher gets an empty environment, one line of JSON on standard input, and three
descriptors. What it writes may already be the sandbox's: every line is capped, every
sentence escaped.
"""

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from typing import Any

from grotto_control.backends import processes
from grotto_control.model.errors import BackendFailure
from grotto_control.model.text import visible

COMMAND = (sys.executable, "-I", "-m", "grotto_runtime")
MAX_LINE_BYTES = 16 * 1024
MAX_LOG_BYTES = 64 * 1024
_F_ADD_SEALS = 1033
_F_SEALS = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW of fcntl(2)


class Launch:
    """One launcher process, until its daemon serves."""

    def __init__(self, pid: int, output: int, log: int, lease: int | None) -> None:
        self.pid = pid
        self.start_ticks = processes.start_ticks(pid) or 0
        self.lease = lease
        """Write end of the daemon's lease, which the caller owns; None if it has none."""
        self._output = output
        self._log = log
        self._lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self._transport: asyncio.ReadTransport | None = None

    async def daemon_pid(self) -> int:
        """Returns the daemon's pid on this host; raises BackendFailure."""
        line = await self._line()
        pid = line.get("pid")
        if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 1:
            raise self._failure(line)
        return pid

    async def ready(self) -> None:
        """Returns when the daemon serves; raises BackendFailure with its own words."""
        line = await self._line()
        if line.get("ready") is not True:
            raise self._failure(line)

    def close(self) -> None:
        """Stops listening to the launcher; the process is the caller's."""
        os.close(self._log)
        if self._transport is None:
            os.close(self._output)
        else:
            self._transport.close()

    async def _line(self) -> dict[str, Any]:
        if self._transport is None:
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(self._lines), os.fdopen(self._output, "rb", 0)
            )
        try:
            raw = await self._lines.readline()
            found = json.loads(raw) if raw else {}
        except (ValueError, RecursionError):
            found = {}
        return found if isinstance(found, dict) else {}

    def _failure(self, line: dict[str, Any]) -> BackendFailure:
        error, hint = line.get("error"), line.get("hint")
        if isinstance(error, str):
            return BackendFailure(
                visible(error, 500), visible(hint, 500) if isinstance(hint, str) else ""
            )
        tail = os.pread(self._log, MAX_LOG_BYTES, 0).rstrip(b"\0\n").decode(errors="replace")
        return BackendFailure(
            "the sandbox ended before it was ready.",
            f"the last it said: {visible(tail[-300:], 400)}" if tail else "",
        )


async def launch(config: dict[str, Any], with_lease: bool) -> Launch:
    """Starts a launcher; `with_lease` keeps its standard input open."""
    stdin, lease = os.pipe2(os.O_CLOEXEC)
    output, stdout = os.pipe2(os.O_CLOEXEC)
    log = _bounded_log()
    try:
        os.write(lease, json.dumps(config).encode() + b"\n")
        pid = await asyncio.shield(asyncio.to_thread(_spawn, stdin, stdout, log))
    except BaseException:
        for descriptor in (lease, output, log):
            os.close(descriptor)
        raise
    finally:
        os.close(stdin)
        os.close(stdout)
    if not with_lease:
        os.close(lease)
    return Launch(pid, output, log, lease if with_lease else None)


def _spawn(stdin: int, stdout: int, stderr: int) -> int:
    process = subprocess.Popen(
        COMMAND, stdin=stdin, stdout=stdout, stderr=stderr, env={}, cwd="/", start_new_session=True
    )
    # Its death is learnt from a pidfd, and it may outlive us: Popen must not wait for it.
    process.returncode = 0
    return process.pid


def _bounded_log() -> int:
    """Returns a file in memory that cannot grow: what a sandbox writes there fills no disk."""
    descriptor = os.memfd_create("grotto-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, MAX_LOG_BYTES)
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _F_SEALS)
    return descriptor
