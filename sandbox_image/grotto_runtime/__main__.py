"""`python -I -m grotto_runtime`: a sandbox, from one JSON line on standard input.

`python -I -m grotto_runtime doctor` says what isolation this machine offers.

The order matters: namespaces while nothing but this is loaded; then zygote and
checker, which must not inherit what a gRPC server opens; then the daemon gives up
its own rights; gRPC last.
"""

import json
import os
import signal
import sys

READY_FD = 1
LEASE_FD = 0


def main() -> int:
    """Runs the sandbox to its end; 0 when it was asked to end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    from grotto_runtime.config import read_config

    config = read_config(LEASE_FD)
    from grotto_runtime.enclosure import EnclosureRefused
    from grotto_runtime.launch import launch

    try:
        return launch(config, _tell)
    except EnclosureRefused as refused:
        _tell({"error": refused.message, "hint": refused.hint})
        return 1


def _tell(line: dict[str, object]) -> None:
    """One line to whoever launched this, who may be gone."""
    try:
        os.write(READY_FD, json.dumps(line).encode() + b"\n")
    except OSError:
        return


if __name__ == "__main__":
    if sys.argv[1:] == ["doctor"]:
        from grotto_runtime import doctor

        sys.exit(doctor.main())
    os._exit(main())  # no thread of gRPC is worth waiting for
