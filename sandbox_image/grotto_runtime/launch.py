"""Assembles a sandbox: walls, zygote, checker, then the daemon serving on its socket."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from grotto_proto.v1 import sessions_pb2
from grotto_runtime.config import LaunchConfig
from grotto_runtime.enclosure import EnclosureSpec, Entered, choose, enter
from grotto_worker import harden

if TYPE_CHECKING:  # gRPC must not be loaded before the walls stand
    from grotto_runtime.daemon import Daemon
    from grotto_runtime.processes import Reaper
    from grotto_runtime.zygote import Zygote

Tell = Callable[[dict[str, object]], None]
LEASE_FD = 0
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
SOCKET_NAME = "r.sock"


def launch(config: LaunchConfig, tell: Tell) -> int:
    """Runs the sandbox to its end and returns its exit status.

    At level full only the daemon, inside its namespaces, comes past `enter`.

    Raises:
        EnclosureRefused: this machine does not offer the level asked for.
    """
    level, missing = choose(config.isolation)
    entered = enter(
        EnclosureSpec(
            level=level,
            run_dir=config.run_dir,
            workspace=config.workspace,
            uid=config.uid,
            disk_bytes=config.disk_bytes,
            inodes=config.inodes,
        )
    )
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    layers = [*entered.layers, *(harden.apply_daemon() if level != "none" else [])]
    isolation = sessions_pb2.Isolation(
        backend="local", level=level, layers=layers, missing=[*missing, *entered.missing]
    )
    return asyncio.run(_run(config, entered, isolation, tell))


async def _run(
    config: LaunchConfig, entered: Entered, isolation: sessions_pb2.Isolation, tell: Tell
) -> int:
    from grotto_runtime.checking import Checker
    from grotto_runtime.daemon import Daemon
    from grotto_runtime.processes import Reaper

    reaper = Reaper()
    checker = Checker(entered.spawn_inner)
    zygote, _ = await asyncio.gather(_zygote(config, entered, reaper), checker.start())
    isolation.layers.extend(name for name in zygote.layers if name not in isolation.layers)
    isolation.missing.extend(name for name in zygote.missing if name not in isolation.missing)
    daemon = Daemon(
        zygote,
        checker,
        reaper,
        entered.workspace,
        isolation,
        frozenset({zygote.pid, entered.spawner.pid}),
    )
    try:
        await _serve(config, entered, daemon, tell)
    finally:
        daemon.close()
    return 0


async def _zygote(config: LaunchConfig, entered: Entered, reaper: "Reaper") -> "Zygote":
    from grotto_runtime.channel import DaemonChannel, pair
    from grotto_runtime.zygote import Zygote
    from grotto_wire.frames import Prepare

    ours, theirs = pair()
    number = theirs.fileno()
    pid = entered.spawn_inner(
        [sys.executable, "-I", "-m", "grotto_worker", str(number)], pass_fds=[number]
    )
    theirs.close()
    zygote = Zygote(pid, DaemonChannel(ours, _unexpected), reaper)
    await zygote.prepare(
        Prepare(
            id=0,
            level=entered.level,
            read_paths=list(entered.read_paths),
            write_paths=list(entered.write_paths),
            device_paths=list(entered.device_paths),
            preload=config.preload,
        )
    )
    await zygote.spawn_spare()
    return zygote


async def _serve(config: LaunchConfig, entered: Entered, daemon: "Daemon", tell: Tell) -> None:
    from grotto_runtime.server import build

    server = build(daemon, config.token)
    os.chdir(entered.run_dir)  # a relative path: the absolute one may be too long for a socket
    server.add_insecure_port(f"unix:{SOCKET_NAME}")
    os.chmod(SOCKET_NAME, 0o600)
    await server.start()
    os.chdir(entered.workspace)
    if config.lease:
        daemon.hold_lease(LEASE_FD)
    tell({"ready": True})
    _close_output()
    orphan = asyncio.create_task(daemon.watch_for_orphanhood(config.orphan_grace_s))
    await daemon.stopping.wait()
    orphan.cancel()
    await server.stop(grace=0.2)


def _close_output() -> None:
    """Whoever launched this waits for the end of its output."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def _unexpected(message: object) -> None:
    """A frame of the zygote that answers nothing."""
