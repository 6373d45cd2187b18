"""Sandboxes as hardened processes of this host.

Layout of its folder, which is the server's alone:

    <root>/<sandbox id>/run     the daemon's socket; owned by the sandbox's user
    <root>/<sandbox id>/work    the workspace, where the daemon makes none of its own
    <root>/<sandbox id>/process pid, start time and uid, to find it again
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grotto_control.backends import processes
from grotto_control.backends.launch import Launch, launch
from grotto_control.core.backend import Capabilities, Found, SandboxSpec
from grotto_control.model.errors import BackendFailure
from grotto_control.model.limits import Limits
from grotto_control.model.records import SandboxHandle

FIRST_UID = 1_610_612_736
"""Far from what distributions, containers and directory services hand out."""
UIDS = 400_000_000
START_TIMEOUT_S = 60.0
BYTES_PER_INODE = 4096
PRELOAD = ("numpy", "pandas")


@dataclass(frozen=True, slots=True)
class LocalConfig:
    root: Path
    isolation: str
    allow_unsandboxed: bool
    lease: bool
    shared: bool
    orphan_grace_s: float
    start_timeout_s: float = START_TIMEOUT_S


class LocalBackend:
    """Implements `core.backend.Backend`. Its process must be a child subreaper."""

    def __init__(self, config: LocalConfig) -> None:
        self._config = config
        self._leases: dict[str, int] = {}
        self._pids: set[int] = set()
        self._uids: set[int] = set()
        self._level = config.isolation

    def capabilities(self) -> Capabilities:
        return Capabilities("local", None if self._config.shared else 1)

    async def start(self, spec: SandboxSpec) -> SandboxHandle:
        try:
            return await self._start(spec, self._level)
        except BackendFailure:
            if not self._config.allow_unsandboxed or self._level == "none":
                raise
            handle = await self._start(spec, "none")
        self._level = "none"
        return handle

    async def apply(self, handle: SandboxHandle, limits: Limits, disk_bytes: int) -> None:
        """The daemon does it all: there is no engine to hold processes of this host."""

    async def wait(self, handle: SandboxHandle) -> str:
        self._pids.add(handle.pid)
        return await processes.wait_for_end(handle.pid, handle.start_ticks)

    async def destroy(self, handle: SandboxHandle) -> None:
        lease = self._leases.pop(handle.sandbox_id, None)
        if lease is not None:
            os.close(lease)
        await asyncio.to_thread(processes.kill_tree, handle.pid, handle.start_ticks, handle.uid)
        await asyncio.to_thread(_remove, self._folder(handle.sandbox_id))
        self._pids.discard(handle.pid)
        self._uids.discard(handle.uid or 0)

    async def list(self) -> Sequence[Found]:
        processes.reap_orphans(frozenset(self._pids))
        return await asyncio.to_thread(self._found)

    async def _start(self, spec: SandboxSpec, level: str) -> SandboxHandle:
        folder = self._folder(spec.sandbox_id)
        uid = self._new_uid()
        handle = SandboxHandle(spec.sandbox_id, 0, 0, str(folder / "run"), uid)
        launching: asyncio.Task[Launch] | None = None
        try:
            _make(folder, uid)
            _note(folder, handle)
            config = self._launch_config(spec, uid, level)
            async with asyncio.timeout(self._config.start_timeout_s):
                launching = asyncio.create_task(launch(config, self._config.lease))
                started = await asyncio.shield(launching)
                self._pids.add(started.pid)
                if started.lease is not None:
                    self._leases[spec.sandbox_id] = started.lease
                handle = _identified(handle, await started.daemon_pid())
                _note(folder, handle)
                await started.ready()
        except BaseException as error:
            await asyncio.shield(self._undo(handle, launching))
            if isinstance(error, TimeoutError):
                raise BackendFailure("the sandbox was not ready in time.") from error
            if isinstance(error, OSError):
                raise BackendFailure(f"the sandbox could not be made: {error.strerror}") from error
            raise
        await self._let_go(started, handle)
        return handle

    async def _let_go(self, started: Launch, handle: SandboxHandle) -> None:
        started.close()
        if started.pid != handle.pid:  # a launcher that has done its work and ends
            await processes.wait_for_end(started.pid, started.start_ticks)
            self._pids.discard(started.pid)

    async def _undo(self, handle: SandboxHandle, launching: asyncio.Task[Launch] | None) -> None:
        if launching is not None:
            with suppress(OSError):
                await self._abandon(await launching, handle)
        await self.destroy(handle)

    async def _abandon(self, started: Launch, handle: SandboxHandle) -> None:
        if started.lease is not None:
            self._leases[handle.sandbox_id] = started.lease
        # The daemon may run although its pid is not known yet: it is below the launcher.
        await asyncio.to_thread(processes.kill_tree, started.pid, started.start_ticks, handle.uid)
        started.close()
        self._pids.discard(started.pid)

    def _launch_config(self, spec: SandboxSpec, uid: int | None, level: str) -> dict[str, Any]:
        folder = self._folder(spec.sandbox_id)
        return {
            "sandbox_id": spec.sandbox_id,
            "token": spec.token,
            "run_dir": str(folder / "run"),
            "workspace": str(folder / "work"),
            "isolation": level,
            "uid": uid,
            "disk_bytes": spec.kind.disk_bytes,
            "inodes": max(1024, spec.kind.disk_bytes // BYTES_PER_INODE),
            "preload": list(PRELOAD),
            "lease": self._config.lease,
            "orphan_grace_s": self._config.orphan_grace_s,
        }

    def _new_uid(self) -> int | None:
        """Returns a uid no sandbox has; None if this process may not choose one."""
        if os.geteuid() != 0:
            return None
        taken = self._uids | {found.handle.uid for found in self._found()}
        # At random, and nobody's now: other control planes on this machine choose, too.
        while (uid := FIRST_UID + secrets.randbelow(UIDS)) in taken or processes.of_user(uid):
            continue
        self._uids.add(uid)
        return uid

    def _found(self) -> Sequence[Found]:
        root = self._config.root
        return [_read(root / name) for name in os.listdir(root)] if root.is_dir() else []

    def _folder(self, sandbox_id: str) -> Path:
        return self._config.root / sandbox_id


def _make(folder: Path, uid: int | None) -> None:
    mode = 0o700 if uid is None else 0o711
    folder.parent.mkdir(mode=mode, exist_ok=True)
    folder.mkdir(mode=mode)
    for name in ("run", "work"):
        (folder / name).mkdir(mode=0o700)
        if uid is not None:
            os.chown(folder / name, uid, uid)


def _remove(folder: Path) -> None:
    """Removes what a sandbox left, whose processes are all dead. What resists is found by
    `list` and tried again."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # It shared our user and took our rights away, or nested deeper than Python recurses.
        commands = (("chmod", "-R", "u+rwx", "--"), ("rm", "-rf", "--"))
        for command in commands:
            subprocess.run([*command, folder], check=False, stderr=subprocess.DEVNULL)


def _identified(handle: SandboxHandle, pid: int) -> SandboxHandle:
    ticks = processes.start_ticks(pid)
    if ticks is None:
        raise BackendFailure("the sandbox ended before it was ready.")
    return replace(handle, pid=pid, start_ticks=ticks)


def _note(folder: Path, handle: SandboxHandle) -> None:
    """Writes what finds the sandbox again if this process dies; its uid before it has a pid."""
    known = {"pid": handle.pid, "start_ticks": handle.start_ticks, "uid": handle.uid}
    draft = folder / "process.new"
    draft.write_text(json.dumps(known))
    draft.rename(folder / "process")


def _read(folder: Path) -> Found:
    """The file is ours alone; it is missing while a sandbox starts or after a crash of ours."""
    try:
        known = json.loads((folder / "process").read_text())
        created_s = folder.stat().st_mtime
    except (OSError, ValueError):
        known, created_s = {"pid": 0, "start_ticks": 0, "uid": None}, 0.0
    handle = SandboxHandle(folder.name, run_dir=str(folder / "run"), **known)
    return Found(handle, created_s)
