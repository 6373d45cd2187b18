"""The checker process: judges source text for the daemon, within limits of its own.

    python -I -m grotto_runtime.checker FD

Owns the child's side only. Parsing hostile text can take any amount of time, memory and stack,
and cannot be interrupted from within, so it happens here and the daemon ends this process when
it must. It never runs what it is given.
"""

import resource
import socket
import sys
import time
import warnings
from collections.abc import Callable, Sequence

from grotto_policy import check, load
from grotto_runtime.check_messages import Check, Checked, Ready
from grotto_wire.frames import Channel, Closed

MEMORY_BYTES = 512 * 1024 * 1024
CPU_S = 10
"""Processor seconds for one check: a second line behind the daemon's deadline."""
MAX_DESCRIPTORS = 16


def main(
    arguments: Sequence[str] | None = None, harden: Callable[[], list[str]] | None = None
) -> None:
    """Serves checks on descriptor `arguments[0]` until the daemon closes its end.

    `harden` puts the process under its isolation and returns the layers in force.
    """
    descriptor = int((sys.argv[1:] if arguments is None else arguments)[0])
    channel = Channel(socket.socket(fileno=descriptor))
    warnings.simplefilter("ignore")  # the parser's, about tenant text
    _limit()
    layers = (harden or _harden)()
    try:
        channel.send(Ready(layers=layers))
        while True:
            request, _ = channel.receive(Check)
            _allow_cpu(CPU_S)
            channel.send(answer(request))
    except (Closed, ConnectionError):
        return


def answer(request: Check) -> Checked:
    """Judges one source text; whatever the text does to the parser becomes part of the answer."""
    try:
        return Checked(request.id, check(request.source, load(request.policy)))
    except (SyntaxError, ValueError) as error:
        return Checked(request.id, parse_error=type(error).__name__)
    except RecursionError:
        return Checked(request.id, gave_up="depth")
    except MemoryError:
        return Checked(request.id, gave_up="memory")


def _harden() -> list[str]:
    from grotto_worker import harden

    return harden.apply_checker()


def _limit() -> None:
    for which, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(which)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (wanted, wanted))


def _allow_cpu(seconds: int) -> None:
    """Moves the soft limit ahead of what was used so far; the kernel ends the process at it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


if __name__ == "__main__":
    main()
