"""What surrounds every call of the service: request id, key, bounds, metrics, errors.

Owns the gRPC context; behaviours see a `Call` and raise GrottoError. Nothing is awaited
before a behaviour starts while its key is warm, so that calls keep their order.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog

from grotto_control.core.admission import Admission
from grotto_control.core.auth import Authenticator
from grotto_control.core.metrics import Metrics
from grotto_control.model.errors import (
    DeadlineExceeded,
    GrottoError,
    Internal,
    Unauthenticated,
    Unavailable,
)
from grotto_control.rpc.status import STATUS
from grotto_proto.metadata import AUTHORIZATION, REQUEST_ID, pack_error

DRAIN_S = 10.0
ENDING = frozenset({"CloseSession", "Interrupt"})
"""Calls that bring a draining server closer to its end."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls."""

    tenant: str
    request_id: str
    accepted: Callable[[], Awaitable[None]]
    """Tells the client, by initial metadata, that its call has its place in the queue: gRPC
    itself does not keep the order of streams, so a client that waits for this does."""


Reply = Callable[[Any, Call], Awaitable[Any]]
Stream = Callable[[Any, Call], AsyncGenerator[Any, None]]


class Guard:
    """Wraps the behaviours of the service's methods."""

    def __init__(
        self, authenticator: Authenticator, admission: Admission, metrics: Metrics
    ) -> None:
        self.authenticator = authenticator
        self.admission = admission
        self.metrics = metrics
        self.log = structlog.get_logger()

    def reply(
        self, method: str, is_transfer: bool, behaviour: Reply
    ) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def handle(request: Any, context: _Context) -> Any:
            async with _Guarded(self, method, is_transfer, context, request) as call:
                try:
                    async with _bounded(self.admission.call_s, resumable=False):
                        return await behaviour(request, call)
                except GrottoError:
                    await _drained(request)
                    raise

        return handle

    def stream(
        self, method: str, is_transfer: bool, behaviour: Stream
    ) -> Callable[[Any, _Context], Awaitable[None]]:
        # Not a generator: cancelled while it writes, a generator would be closed only when
        # it is collected, and the call to the daemon with it.
        async def handle(request: Any, context: _Context) -> None:
            async with (
                _Guarded(self, method, is_transfer, context, request) as call,
                _bounded(self.admission.call_s, resumable=not is_transfer),
                aclosing(behaviour(request, call)) as items,
            ):
                async for item in items:
                    await context.write(item)

        return handle


@asynccontextmanager
async def _bounded(call_s: float, resumable: bool) -> AsyncIterator[None]:
    """Ends a call that takes too long; the client of an execution is told to ask again."""
    try:
        async with asyncio.timeout(call_s) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        message = f"the call took over {call_s:.0f} s, as long as one may."
        if resumable:
            raise Unavailable(message, "ask for the execution again by its id.") from error
        raise DeadlineExceeded(message, "what runs in the session before it?") from error


async def _drained(request: Any) -> None:
    """Takes what a client is still sending before its call is refused.

    A client of grpc.aio that is told of the end while it writes reports INTERNAL and
    loses the status that says why.
    """
    if isinstance(request, AsyncIterator):
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                async for _ in request:
                    continue


class _Guarded:
    """One call, from its metadata to its status."""

    def __init__(
        self, guard: Guard, method: str, is_transfer: bool, context: _Context, request: Any
    ) -> None:
        self._guard = guard
        self._request = request
        self._method = method
        self._is_transfer = is_transfer
        self._context = context
        self._places = ExitStack()
        self._request_id = ""
        self._started_s = time.perf_counter()

    async def __aenter__(self) -> Call:
        metadata = dict(self._context.invocation_metadata() or ())
        self._request_id = _request_id(metadata.get(REQUEST_ID))
        authorization = metadata.get(AUTHORIZATION, "")
        if not isinstance(authorization, str):
            authorization = ""
        try:
            authenticator = self._guard.authenticator
            identity = authenticator.cached(authorization) or await authenticator.authenticate(
                authorization
            )
            is_ending = self._method in ENDING
            place = self._guard.admission.enter(identity, self._is_transfer, is_ending)
            self._places.enter_context(place)
        except GrottoError as error:
            if not isinstance(error, Unauthenticated):
                await _drained(self._request)
            await self._refuse(error)
        return Call(identity.tenant, self._request_id, self._accepted)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        ended = self._guard.admission.take_ended(task) if task is not None else None
        self._places.close()
        if error is None:
            self._count("OK")
        elif isinstance(error, GrottoError):
            await self._refuse(error)
        elif isinstance(error, Exception):
            self._guard.log.error(
                "call failed", method=self._method, request=self._request_id, exc_info=error
            )
            await self._refuse(Internal(f"the server failed; request {self._request_id}."))
        elif ended is not None and task is not None:
            task.uncancel()
            await self._refuse(ended)
        else:
            self._count("CANCELLED")

    async def _accepted(self) -> None:
        await self._context.send_initial_metadata(())

    async def _refuse(self, error: GrottoError) -> NoReturn:
        status = STATUS[error.reason]
        self._count(status.name)
        trailers = pack_error(error.reason, error.message, error.hint)
        await self._context.abort(status, error.message, trailers)

    def _count(self, code: str) -> None:
        self._guard.metrics.rpc(self._method, code, time.perf_counter() - self._started_s)


def _request_id(given: str | bytes | None) -> str:
    if isinstance(given, str) and _REQUEST_ID.fullmatch(given):
        return given
    return secrets.token_urlsafe(9)
