"""`python -I -m grotto_runtime container`: the sandbox of a container, from its first process.

    python -I -m grotto_runtime container --daemon-uid D [--worker-uid W]

Uids are taken before anything is listened to, and everything secret comes by the launch socket.
"""

import argparse
import sys
from collections.abc import Sequence

from grotto_proto.v1 import sessions_pb2
from grotto_runtime.enclosure import EnclosureRefused, container
from grotto_runtime.launch import run
from grotto_runtime.launcher import NobodyLaunched, await_launcher


def main(arguments: Sequence[str]) -> int:
    """Runs the sandbox to its end; 0 when it was asked to end, 1 when it could not be one."""
    wanted = _parser().parse_args(arguments)
    try:
        entered = container.enter(wanted.daemon_uid, wanted.worker_uid)
        launcher = await_launcher(entered.run_dir)
    except EnclosureRefused as refused:
        return _refuse(f"{refused.message} {refused.hint}")
    except NobodyLaunched as nobody:
        return _refuse(f"{nobody}.")
    config = launcher.config()
    if config.isolation != entered.level:
        message = f"a container cannot give isolation {config.isolation!r}."
        launcher.tell({"error": message, "hint": f"Ask for {entered.level!r}."})
        return 1
    isolation = sessions_pb2.Isolation(
        backend="docker", level=entered.level, layers=entered.layers, missing=entered.missing
    )
    return run(config, entered, isolation, launcher)


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grotto_runtime container")
    parser.add_argument("--daemon-uid", type=int, required=True, help="uid and gid of the daemon")
    parser.add_argument("--worker-uid", type=int, help="of the worker; left out: the daemon's")
    return parser
