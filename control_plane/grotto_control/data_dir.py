"""The server's directory: private to its user, and held by one server at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grotto_control.config import LOCK, BadConfig


def prepare(path: Path) -> None:
    """Makes the directory, private to this user; raises BadConfig if it is somebody else's.

    Root's may be passed through, not read: sandboxes have users of their own, and the
    folder of each is below it.
    """
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        if path.stat().st_uid != os.geteuid():
            raise BadConfig(f"the data directory {path} belongs to another user.")
        path.chmod(mode)
    except OSError as error:
        raise BadConfig(f"the data directory {path} cannot be used: {error.strerror}.") from error


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the directory for one server; raises BadConfig if another one has it."""
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadConfig(
                f"another server is running on the data directory {path}: "
                "stop it, or choose another --data-dir."
            ) from error
        yield
    finally:
        os.close(descriptor)
