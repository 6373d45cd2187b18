"""Assembles a sandbox inside its walls: zygote, checker, then the daemon serving on its socket."""

import asyncio
import ctypes
import os
import sys
from typing import TYPE_CHECKING

from grotto_proto.v1 import sessions_pb2
from grotto_runtime.config import LaunchConfig
from grotto_runtime.enclosure import EnclosureRefused, EnclosureSpec, Entered, choose, enter
from grotto_runtime.launcher import Launcher
from grotto_worker import harden

if TYPE_CHECKING:  # gRPC must not be loaded before the walls stand
    import grpc

    from grotto_runtime.daemon import Daemon
    from grotto_runtime.processes import Reaper
    from grotto_runtime.zygote import Zygote

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
SOCKET_NAME = "r.sock"


def launch(launcher: Launcher) -> int:
    """Puts the walls up on this machine, runs the sandbox to its end, returns its exit status.

    At level full only the daemon, inside its namespaces, comes past `enter`.
    """
    config = launcher.config()
    try:
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
    except EnclosureRefused as refused:
        launcher.tell({"error": refused.message, "hint": refused.hint})
        return 1
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    isolation = sessions_pb2.Isolation(
        backend="local", level=level, layers=entered.layers, missing=[*missing, *entered.missing]
    )
    return run(config, entered, isolation, launcher)


def run(
    config: LaunchConfig,
    entered: Entered,
    isolation: sessions_pb2.Isolation,
    launcher: Launcher,
) -> int:
    """Runs the sandbox whose walls stand to its end; returns its exit status.

    The caller is the parent of all orphans in it. What the walls bring and lack is in
    `isolation`; the rest is added here.
    """
    if entered.level != "none":
        isolation.layers.extend(harden.apply_daemon(entered.daemon_capabilities))
    return asyncio.run(_run(config, entered, isolation, launcher))


async def _run(
    config: LaunchConfig,
    entered: Entered,
    isolation: sessions_pb2.Isolation,
    launcher: Launcher,
) -> int:
    from grotto_runtime.processes import Reaper

    reaper = Reaper()
    starting = asyncio.create_task(_zygote(config, entered, reaper))
    await asyncio.sleep(0)  # it has its orders: it imports while this process does
    from grotto_runtime.checking import Checker
    from grotto_runtime.daemon import Daemon
    from grotto_runtime.server import build

    checker = Checker(entered.spawn_inner)
    zygote, _ = await asyncio.gather(starting, checker.start())
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
        await _serve(config, entered, daemon, build(daemon, config.token), launcher)
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
        [sys.executable, "-I", "-m", "grotto_worker", str(number)],
        pass_fds=[number],
        env=entered.environment,
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


async def _serve(
    config: LaunchConfig,
    entered: Entered,
    daemon: "Daemon",
    server: "grpc.aio.Server",
    launcher: Launcher,
) -> None:
    os.chdir(entered.run_dir)  # a relative path: the absolute one may be too long for a socket
    server.add_insecure_port(f"unix:{SOCKET_NAME}")
    os.chmod(SOCKET_NAME, entered.socket_mode)
    await server.start()
    os.chdir(entered.workspace)
    if config.lease:
        daemon.hold_lease(launcher.lease_fd)
    launcher.tell({"ready": True})
    launcher.release(config.lease)
    orphan = asyncio.create_task(daemon.watch_for_orphanhood(config.orphan_grace_s))
    await daemon.stopping.wait()
    orphan.cancel()
    await server.stop(grace=0.2)


def _unexpected(message: object) -> None:
    """A frame of the zygote that answers nothing."""
