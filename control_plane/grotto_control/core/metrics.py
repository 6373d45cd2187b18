"""What the core and the RPC layer report. Labels are words of closed sets only."""

from collections.abc import Mapping
from typing import Protocol


class Metrics(Protocol):
    def rpc(self, method: str, code: str, seconds: float) -> None: ...

    def execution(self, outcome: str) -> None: ...

    def bound(self, seconds: float, warm: bool) -> None:
        """A session was created; `seconds` from its reservation to its first possible cell.

        `warm`: on a sandbox of the pool.
        """
        ...

    def backend(self, up: bool) -> None:
        """Whether what starts sandboxes can be asked."""
        ...

    def counted(
        self,
        sessions: Mapping[str, int],
        sandboxes: Mapping[str, int],
        warm: int,
        warm_target: int,
    ) -> None: ...
