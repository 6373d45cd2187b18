"""What a backend is: a few idempotent verbs around a serialisable handle.

Modelled on Nomad's task drivers. Execution is not a backend verb: it goes to the
daemon through the handle's socket.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grotto_control.model.limits import Limits
from grotto_control.model.records import SandboxHandle


@dataclass(frozen=True, slots=True)
class Capabilities:
    name: str
    max_tenants: int | None
    """How many tenants may have live sessions at once; None: any number."""
    images: tuple[str, ...] = ()
    """What sandboxes can be made of, by name, the default first; empty: there is no choice."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What of a sandbox is fixed when it is made; everything else is applied when it is bound."""

    image: str
    """One of `Capabilities.images`; "" where there are none."""
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A sandbox to be made."""

    sandbox_id: str
    token: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Found:
    """A sandbox, or what is left of one, that exists on this backend."""

    handle: SandboxHandle
    created_s: float


class Backend(Protocol):
    def capabilities(self) -> Capabilities: ...

    async def start(self, spec: SandboxSpec) -> SandboxHandle:
        """Returns when the daemon serves on the handle's socket.

        Raises BackendFailure; leaves nothing behind then, nor when it is cancelled.
        """
        ...

    async def apply(self, handle: SandboxHandle, limits: Limits, disk_bytes: int) -> None:
        """Holds a sandbox with a disk of that size to a session's limits, as far as that is
        not done by its daemon; the same limits again are no work. Raises BackendFailure."""
        ...

    async def wait(self, handle: SandboxHandle) -> str:
        """Returns, when the sandbox is dead, how it ended, as in "was killed by signal 9"."""
        ...

    async def destroy(self, handle: SandboxHandle) -> None:
        """Ends every process of the sandbox and removes all it left; again is no error.

        Raises BackendFailure when that cannot be had now; `list` goes on to find it then.
        """
        ...

    async def list(self) -> Sequence[Found]:
        """Raises BackendFailure when it cannot be known what there is."""
        ...
