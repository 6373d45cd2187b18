"""`AsyncSession`: one live interpreter, as the async core sees it."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Self

from grotto._bound import CONTROL_DEADLINE_S
from grotto._chunks import OnTransfer
from grotto._executions import Executions
from grotto._namespace import Namespace
from grotto._records import SessionInfo, Usage
from grotto._transport import Transport
from grotto._workspace import Workspace
from grotto.errors import GrottoError, NotFoundError
from grotto_proto.v1 import sessions_pb2

CLOSE_DEADLINE_S = 60.0


class AsyncSession(Executions, Namespace, Workspace):
    """One live Python interpreter in its own sandbox; get one from `AsyncClient.session()`.

    `async with` closes it at the end unless `detach()` was called. The methods are
    those of `grotto.Session`, awaitable. Cancelling a call stops the waiting, not the
    execution: `interrupt()` does that.
    """

    def __init__(
        self, transport: Transport, info: SessionInfo, on_transfer: OnTransfer | None = None
    ) -> None:
        super().__init__(transport, info, on_transfer)
        self._detached = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._detached:
            return
        try:
            await self.close()
        except GrottoError:
            if error is None:
                raise

    async def close(self) -> None:
        """Ends the session and its sandbox. A session that is gone already is no error."""
        request = sessions_pb2.CloseSessionRequest(session_id=self.id)
        with suppress(NotFoundError):
            await self._transport.unary(
                self._transport.stub.CloseSession, request, deadline_s=CLOSE_DEADLINE_S
            )

    def detach(self) -> None:
        """Leaving the block leaves the session running."""
        self._detached = True

    async def usage(self) -> Usage:
        """Returns what the session used so far; answered while code runs."""
        request = sessions_pb2.GetUsageRequest(session_id=self.id)
        reply = await self._transport.unary(
            self._transport.stub.GetUsage, request, deadline_s=CONTROL_DEADLINE_S
        )
        return Usage.from_wire(reply)
