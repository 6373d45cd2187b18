"""Starts the launcher of a sandbox and reads the two lines it answers with.

The launcher gets an empty environment, one line of JSON on standard input, and three
descriptors. What it writes may already be the sandbox's: every line is capped, every
sentence escaped.
"""

import asyncio
import fcntl
import json
import os
import sys
from contextlib import suppress
from typing import Any

from grotto_control.model.errors import BackendFailure
from grotto_control.model.text import visible

COMMAND = (sys.executable, "-I", "-m", "grotto_runtime")
MAX_LINE_BYTES = 16 * 1024
MAX_LOG_BYTES = 64 * 1024
_F_SEALS = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW of fcntl(2)
_F_ADD_SEALS = 1033


class Launch:
    """One launcher process, until its daemon serves."""

    def __init__(self, process: asyncio.subprocess.Process, log: int, lease: int | None) -> None:
        self._process = process
        self._log = log
        self.lease = lease
        """Write end of the daemon's lease; None if it has none. Whoever starts it owns it."""

    @property
    def pid(self) -> int:
        return self._process.pid

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

    async def finish(self, kill: bool) -> None:
        """Lets go of the launcher; with `kill` it is ended first."""
        if kill:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        os.close(self._log)

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            raw = await self._process.stdout.readline()
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
    reader, writer = os.pipe2(os.O_CLOEXEC)
    log = -1
    try:
        log = _bounded_log()
        os.write(writer, json.dumps(config).encode() + b"\n")
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=reader,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={},
            cwd="/",
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )
    except BaseException:
        os.close(writer)
        if log >= 0:
            os.close(log)
        raise
    finally:
        os.close(reader)
    if not with_lease:
        os.close(writer)
    return Launch(process, log, writer if with_lease else None)


def _bounded_log() -> int:
    """Returns a file in memory that cannot grow: what a sandbox writes there fills no disk."""
    descriptor = os.memfd_create("grotto-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, MAX_LOG_BYTES)
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _F_SEALS)
    return descriptor
