"""`python -I -m grotto_runtime`: a sandbox, from one JSON line on standard input.

`python -I -m grotto_runtime container …` is the first process of a container, which gets that
line by its launch socket. `python -I -m grotto_runtime doctor` says what isolation this machine
offers.

The order matters: namespaces and uids while nothing but this is loaded; then zygote and
checker, which must not inherit what a gRPC server opens; then the daemon gives up
its own rights; gRPC last.
"""

import os
import signal
import sys


def main(arguments: list[str]) -> int:
    """Runs the sandbox to its end; 0 when it was asked to end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    if arguments[:1] == ["container"]:
        from grotto_runtime import container

        return container.main(arguments[1:])
    from grotto_runtime.launch import launch
    from grotto_runtime.launcher import standard_streams

    return launch(standard_streams())


if __name__ == "__main__":
    if sys.argv[1:] == ["doctor"]:
        from grotto_runtime import doctor

        sys.exit(doctor.main())
    os._exit(main(sys.argv[1:]))  # no thread of gRPC is worth waiting for
