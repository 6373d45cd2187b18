"""The limits of a session, as plain numbers."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_CHUNK_BYTES = MIB
MAX_MESSAGE_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything is set; `wall_s`, `cpu_s` and `output_bytes` hold per execution."""

    cpus: float = 1.0
    memory_bytes: int = GIB
    pids: int = 128
    disk_bytes: int = 256 * MIB
    wall_s: float = 120.0
    cpu_s: float = 0.0
    """0: `wall_s` times `cpus`."""
    output_bytes: int = MIB
    value_bytes: int = GIB
