"""Whoever launched this sandbox: its configuration comes in, one line goes back, a lease may stay.

Two ways in: the standard streams of a process, and the launch socket of a container, where
argument list and environment are open to anybody who may ask the engine.
"""

import contextlib
import json
import os
import socket
import struct
from dataclasses import dataclass

from grotto_runtime.config import LaunchConfig, read_config

LAUNCH_SOCKET = "launch.sock"
CONNECT_S = 60.0
"""Whoever made the container connects within that time, and sends within that time again."""
SOCKET_MODE = 0o660
_SECONDS_AND_MICROSECONDS = struct.Struct("ll")


class NobodyLaunched(Exception):
    """No configuration came; the text says what was waited for."""


@dataclass(frozen=True)
class Launcher:
    """The two descriptors of one launcher; they may be the same."""

    lease_fd: int
    """The configuration is read from it; with a lease, its end ends the sandbox."""
    ready_fd: int

    def config(self) -> LaunchConfig:
        """Reads the one line of configuration; raises SystemExit when it is none."""
        return read_config(self.lease_fd)

    def tell(self, line: dict[str, object]) -> None:
        """One line to the launcher, who may be gone."""
        with contextlib.suppress(OSError):
            os.write(self.ready_fd, json.dumps(line).encode() + b"\n")

    def release(self, leased: bool) -> None:
        """Keeps only the lease: the launcher waits for the end of what it reads."""
        if leased and self.lease_fd == self.ready_fd:
            return
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, self.ready_fd)
        os.close(null)


def standard_streams() -> Launcher:
    """A launcher that holds the other ends of standard input and output."""
    return Launcher(lease_fd=0, ready_fd=1)


def await_launcher(run_dir: str, connect_s: float = CONNECT_S) -> Launcher:
    """Listens on `launch.sock` in `run_dir` for one connection; the socket is gone afterwards.

    Raises:
        NobodyLaunched: nobody connected within `connect_s`.
    """
    path = os.path.join(run_dir, LAUNCH_SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        try:
            os.chmod(path, SOCKET_MODE)
            listener.listen(1)
            listener.settimeout(connect_s)
            connection, _ = listener.accept()
        except TimeoutError as error:
            raise NobodyLaunched(
                f"nobody connected to {path} within {connect_s:g} s; the control plane does, "
                "right after it has started the container"
            ) from error
        finally:
            os.unlink(path)
    connection.setblocking(True)
    patience = _SECONDS_AND_MICROSECONDS.pack(int(connect_s), int(connect_s % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    descriptor = connection.detach()
    return Launcher(lease_fd=descriptor, ready_fd=descriptor)
