"""What the control plane tells a sandbox at launch: one JSON line on standard input."""

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
    """Host directory of the session's files; unused at level full, which has a tmpfs."""
    isolation: str
    """`auto`, `full`, `reduced` or `none`."""
    uid: int | None
    """Outside uid of the sandbox when launched by root."""
    disk_bytes: int
    inodes: int
    preload: list[str]
    """Modules the zygote imports if the image has them."""
    lease: bool
    """Whether standard input stays open, its end ending the sandbox."""
    orphan_grace_s: float
    """The daemon ends itself after that long without a call."""


def read_config(descriptor: int) -> LaunchConfig:
    """Reads one line, byte by byte: what follows on the descriptor is the lease."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte or len(line) > MAX_LINE_BYTES:
            raise SystemExit("no launch configuration on standard input")
        line += byte
    return msgspec.json.decode(bytes(line), type=LaunchConfig)
