"""The walls around a sandbox on this machine: level, namespaces, root file system, inner processes.

Runs at the very start of the daemon, single-threaded, before gRPC is imported. What a process
gives up *inside* the walls is `grotto_worker.harden`.
"""

from grotto_runtime.enclosure.entry import EnclosureSpec, Entered, enter
from grotto_runtime.enclosure.levels import EnclosureRefused, choose
from grotto_runtime.enclosure.spawner import Spawner, SpawnFailed

__all__ = [
    "EnclosureRefused",
    "EnclosureSpec",
    "Entered",
    "SpawnFailed",
    "Spawner",
    "choose",
    "enter",
]
