"""What the control plane tells a sandbox at launch: one JSON line."""

import os

import msgspec

MAX_LINE_BYTES = 64 * 1024


class LaunchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fixed for the sandbox's life; what a session chooses comes later, with Bind."""

    sandbox_id: str
    token: str
    """Proves to this sandbox that a caller is its control plane; 256 bit."""
    run_dir: str
    """Directory of the daemon's socket `r.sock`."""
    workspace: str
    """Directory of the session's files; unused at level full, which has a tmpfs of its own."""
    isolation: str
    """`auto`, `full`, `reduced` or `none`; `container` in one, and nowhere else."""
    uid: int | None
    """Outside uid of the sandbox when launched by root."""
    disk_bytes: int
    inodes: int
    preload: list[str]
    """Modules the zygote imports if the image has them."""
    lease: bool
    """Whether what this came from stays open, its end ending the sandbox."""
    orphan_grace_s: float
    """The daemon ends itself after that long without a call."""


def read_config(descriptor: int) -> LaunchConfig:
    """Reads one line, byte by byte: what follows on the descriptor is the lease.

    Raises:
        SystemExit: with the sentence that says what came instead.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        try:
            byte = os.read(descriptor, 1)
        except OSError as error:  # the launcher stopped in the middle
            raise SystemExit(f"no launch configuration came: {error.strerror}") from error
        if not byte or len(line) > MAX_LINE_BYTES:
            raise SystemExit(f"no launch configuration came: a line of 1 to {MAX_LINE_BYTES} bytes")
        line += byte
    try:
        return msgspec.json.decode(bytes(line), type=LaunchConfig)
    except msgspec.MsgspecError as error:  # its text names fields, not what is in them
        raise SystemExit(f"the launch configuration is not as agreed: {error}") from error
