"""The zygote: hardened, with everything imported, and never running tenant code.

A worker is a fork of it: milliseconds instead of the seconds that importing
IPython and pandas takes. It must not start threads, which a fork would lose.
"""

import gc
import importlib
import os
import signal
from typing import TYPE_CHECKING

from grotto_wire.frames import Channel, Closed, Done, Hello, Prepare, Spawn, ToZygote
from grotto_worker import harden

if TYPE_CHECKING:  # importing it is what _import_all is for
    from grotto_worker.shell import Shell


def run(channel: Channel) -> None:
    """Serves Prepare once, then Spawn, until the daemon closes the channel."""
    request, _ = channel.receive(ToZygote)
    if not isinstance(request, Prepare):
        raise SystemExit("the first frame to a zygote is Prepare")
    layers, missing = _harden(request)
    shell = _import_all(request.preload)
    channel.send(Hello(id=request.id, layers=layers, missing=missing))
    while True:
        try:
            spawn, descriptors = channel.receive(ToZygote)
        except Closed:
            return
        _spawn(channel, shell, spawn, descriptors, request.level)


def _harden(request: Prepare) -> tuple[list[str], list[str]]:
    if request.level == "none":
        return [], []
    applied = harden.apply_worker(
        harden.WorkerSpec(
            read_paths=tuple(request.read_paths),
            write_paths=tuple(request.write_paths),
            device_paths=tuple(request.device_paths),
            allow_sockets=request.level == "full",
            deny_memfd=True,
            deny_shared_anonymous=True,
            level=request.level,
        )
    )
    return list(applied.layers), list(applied.missing)


def _import_all(preload: list[str]) -> "Shell":
    """Imports what workers will need; a preload module the image lacks is left out."""
    from grotto_worker.shell import Shell
    from grotto_worker.worker import Worker  # noqa: F401  (so that forks have it)

    for name in preload:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    shell = Shell()
    # What is here now lives as long as the sandbox: a collector that walked it
    # in every fork would make each of them copy all of it.
    gc.collect()
    gc.freeze()
    return shell


def _spawn(
    channel: Channel, shell: "Shell", request: Spawn, descriptors: list[int], level: str
) -> None:
    """Forks a worker that is the daemon's child: twice, so that it is orphaned to it."""
    intermediate = os.fork()
    if intermediate == 0:
        if os.fork() == 0:
            channel.close()
            _become_worker(shell, request, descriptors, level)
        os._exit(0)
    os.waitpid(intermediate, 0)
    for descriptor in descriptors:
        os.close(descriptor)
    channel.send(Done(id=request.id))


def _become_worker(shell: "Shell", request: Spawn, descriptors: list[int], level: str) -> None:
    from grotto_worker.worker import Worker, adopt

    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        channel = adopt(descriptors)
        layers = harden.scope_worker()
        shell.warm_up()
        channel.send(Hello(id=request.id, layers=layers))
        Worker(channel, shell, level).run()
        status = 0
    finally:
        os._exit(status)
