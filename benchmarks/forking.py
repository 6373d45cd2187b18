"""A process of the floor: a bare fork of an interpreter that has the preload imported.

For each line on stdin it forks, waits for a byte from the child, and prints the
seconds that took. It ends when its stdin does.
"""

import importlib
import os
import sys
import time

PRELOAD = ("IPython", "numpy", "pandas")


def fork_s() -> float:
    """Returns the seconds from before the fork until the child's byte arrived."""
    reader, writer = os.pipe()
    begin = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"x")
        os._exit(0)
    os.read(reader, 1)
    elapsed_s = time.perf_counter() - begin
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    return elapsed_s


def main() -> None:
    for module in PRELOAD:
        importlib.import_module(module)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(fork_s(), flush=True)


if __name__ == "__main__":
    main()
