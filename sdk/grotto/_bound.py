"""What every part of an asynchronous session shares: the transport, the session, progress."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from grotto._chunks import OnTransfer, Transfer
from grotto._records import Isolation, SessionInfo
from grotto._transport import Transport

CONTROL_DEADLINE_S = 30.0
"""For calls that are answered while code runs."""


class Bound:
    """A session's identity on one transport; the parts of `AsyncSession` build on it."""

    def __init__(
        self, transport: Transport, info: SessionInfo, on_transfer: OnTransfer | None = None
    ) -> None:
        self._transport = transport
        self._info = info
        self._on_transfer = on_transfer
        self._turn = asyncio.Lock()
        """Held while a call that touches the namespace is on its way to the session's queue."""

    @property
    def id(self) -> str:
        """The session's id; `client.attach(id)` comes back to it."""
        return self._info.id

    @property
    def info(self) -> SessionInfo:
        """What the server said when the session was created or attached."""
        return self._info

    @property
    def isolation(self) -> Isolation:
        """Which isolation layers are really in force."""
        return self._info.isolation

    def _reported(
        self, parts: Iterator[bytes], kind: str, name: str, total_bytes: int
    ) -> Iterator[bytes]:
        done_bytes = 0
        for part in parts:
            yield part
            done_bytes += len(part)
            self._report(kind, name, done_bytes, total_bytes)

    def _report(self, kind: str, name: str, done_bytes: int, total_bytes: int) -> None:
        if self._on_transfer is not None:
            self._on_transfer(Transfer(kind, name, done_bytes, total_bytes))
