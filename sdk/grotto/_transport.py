"""The one seam to the wire: channel, stubs, metadata, error mapping.

Nothing above this module sees a `grpc.RpcError`. gRPC's threads do not survive
`fork()`: a client made before a fork must not be used in the child.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
import grpc.aio

from grotto._address import Address
from grotto._diagnosis import misconfiguration
from grotto._printable import printable
from grotto._retries import Attempts, Backoff, Retries, Waiting
from grotto._trust import Trust
from grotto.errors import (
    EXCEPTIONS,
    AuthenticationError,
    DeadlineExceededError,
    GrottoError,
    UnavailableError,
    UntransferableError,
    VersionMismatchError,
)
from grotto_proto.metadata import AUTHORIZATION, REQUEST_ID, unpack_error
from grotto_proto.v1 import errors_pb2
from grotto_proto.v1.sessions_pb2_grpc import SessionsStub

if TYPE_CHECKING:
    from grotto_proto.v1.sessions_pb2_grpc import SessionsAsyncStub

Req = TypeVar("Req")
Res = TypeVar("Res")

OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # The server's metadata is small; its errors carry a detail in theirs.
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # While a call runs, a peer that is gone without a word is noticed within 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # what counts; a minute unless it is said
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # Channels to the same target would share one connection across clients and loops.
    ("grpc.use_local_subchannel_pool", 1),
)

_BY_STATUS: dict[grpc.StatusCode, type[GrottoError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.UNIMPLEMENTED: VersionMismatchError,
}
"""For failures without an error detail: gRPC's own, not the server's."""

_OPEN_ENDED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""Without an error detail they come from the way to the server, not from it."""

_OFFENDING_PART = re.compile(r"(?P<path>\S.{0,1000}?) ?: (?P<type>[\w.<>]{1,300})(?=[\s;,]|$)")


class Transport:
    """One channel to one server, with one key.

    `gone` returns a sentence once the server can never come back; `new_id` makes
    request and execution ids.
    """

    def __init__(
        self,
        address: Address,
        api_key: str,
        *,
        new_id: Callable[[], str],
        trust: Trust | None = None,
        gone: Callable[[], str | None] = lambda: None,
        backoff: Backoff | None = None,
        waiting: Waiting | None = None,
        options: Sequence[tuple[str, int]] = OPTIONS,
    ) -> None:
        self._address = address
        channel = (
            grpc.aio.insecure_channel(address.target, options)
            if trust is None
            else grpc.aio.secure_channel(address.target, trust.credentials(), options)
        )
        stub = cast("SessionsAsyncStub", SessionsStub(channel))
        self._open: tuple[grpc.aio.Channel, SessionsAsyncStub] | None = (channel, stub)
        self._authorization = f"Bearer {api_key}"
        self.new_id = new_id
        self._retries = Retries(
            backoff or Backoff(),
            waiting or Waiting(),
            gone,
            lambda: misconfiguration(address, trust),
        )

    @property
    def stub(self) -> SessionsAsyncStub:
        """The calls there are; raises GrottoError once closed."""
        return self._opened()[1]

    async def close(self) -> None:
        """Closes the channel; calls in progress end. Idempotent."""
        if self._open is not None:
            # Forgotten, because gRPC keeps descriptors as long as the object lives.
            (channel, _), self._open = self._open, None
            await channel.close()

    def _opened(self) -> tuple[grpc.aio.Channel, SessionsAsyncStub]:
        if self._open is None:
            raise GrottoError("This client is closed.", hint="Make a new one.")
        return self._open

    def attempts(self) -> Attempts:
        """Returns the tries of one new call."""
        return Attempts(self._retries)

    async def unary(
        self,
        call: grpc.aio.UnaryUnaryMultiCallable[Req, Res],
        request: Req,
        *,
        deadline_s: float | None = None,
    ) -> Res:
        """Makes a call that is safe to repeat, and repeats it while the server is away."""
        attempts, metadata = self.attempts(), self._metadata()
        while True:
            try:
                reply = await call(request, metadata=metadata, timeout=deadline_s)
                self._retries.succeeded()
                return reply
            except grpc.aio.AioRpcError as error:
                mapped = self._mapped(error, metadata)
                if not isinstance(mapped, UnavailableError):
                    raise mapped from error
                mapped.__cause__ = error
                await attempts.again(mapped)

    async def once(
        self,
        call: grpc.aio.UnaryUnaryMultiCallable[Req, Res],
        request: Req,
        *,
        deadline_s: float | None = None,
    ) -> Res:
        """Makes a call that must not happen twice: waits for the server, then tries once.

        An error that leaves open whether it happened says so.
        """
        metadata = self._metadata()
        await self._ready()
        try:
            return await call(request, metadata=metadata, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            mapped = self._mapped(error, metadata)
            if error.code() in _OPEN_ENDED and not _has_detail(error):
                mapped = _may_have_happened(mapped)
            raise mapped from error

    async def stream(
        self,
        call: grpc.aio.UnaryStreamMultiCallable[Req, Res],
        request: Req,
        turn: asyncio.Lock | None = None,
    ) -> AsyncGenerator[Res, None]:
        """Yields one try's replies; leaving the generator cancels the call.

        `turn` is held from before the call is made until the server has taken it: gRPC
        does not keep the order of calls that are started at once.
        """
        metadata = self._metadata()
        if turn is not None:
            await turn.acquire()
        running = call(request, metadata=metadata)
        if turn is not None:
            taken = asyncio.ensure_future(running.initial_metadata())
            taken.add_done_callback(lambda done: _taken(done, turn))
        try:
            async for reply in running:
                yield reply
        except grpc.aio.AioRpcError as error:
            raise self._mapped(error, metadata) from error
        finally:
            running.cancel()

    async def send(
        self,
        call: grpc.aio.StreamUnaryMultiCallable[Req, Res],
        requests: Callable[[], AsyncIterator[Req]],
    ) -> Res:
        """Sends a stream and returns the reply; the stream is made anew for each try."""
        attempts, metadata = self.attempts(), self._metadata()
        while True:
            try:
                reply = await call(requests(), metadata=metadata)
                self._retries.succeeded()
                return reply
            except grpc.aio.AioRpcError as error:
                mapped = self._mapped(error, metadata)
                if not isinstance(mapped, UnavailableError):
                    raise mapped from error
                mapped.__cause__ = error
                await attempts.again(mapped)

    def _metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata((AUTHORIZATION, self._authorization), (REQUEST_ID, self.new_id()))

    async def _ready(self) -> None:
        channel, _ = self._opened()
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(self._retries.patience_s()):
                await channel.channel_ready()
        except TimeoutError as error:
            reason = await self._retries.hopeless()
            raise UnavailableError(
                reason or f"There is no answer from {self._address.url}.",
                hint="The call was not made.",
            ) from error

    def _mapped(self, error: grpc.aio.AioRpcError, metadata: grpc.aio.Metadata) -> GrottoError:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            self._retries.was_reached = True
        return to_exception(error, self._address.url, str(metadata[REQUEST_ID]))


def to_exception(error: grpc.aio.AioRpcError, url: str, request_id: str = "") -> GrottoError:
    """Returns the SDK's exception for a failed call; total."""
    trailers = error.trailing_metadata()
    detail = unpack_error(tuple(trailers) if trailers else ())
    if detail is None:
        return _without_detail(error, url, request_id)
    kind = EXCEPTIONS.get(detail.reason, GrottoError)
    message, hint = printable(detail.message), printable(detail.hint)
    if kind is UntransferableError:
        return _untransferable(detail, request_id)
    return kind(message, hint=hint, request_id=request_id)


def _without_detail(error: grpc.aio.AioRpcError, url: str, request_id: str) -> GrottoError:
    kind = _BY_STATUS.get(error.code(), GrottoError)
    said = printable(error.details() or error.code().name, 300)
    if kind is UnavailableError:
        return kind(
            f"There is no answer from {url}: {said}.".replace("..", "."),
            hint="Is the server running? `grotto serve` starts one.",
            request_id=request_id,
        )
    if kind is VersionMismatchError:
        return kind(f"The server at {url} does not know this call: {said}", request_id=request_id)
    return kind(f"The call to {url} failed: {said}", request_id=request_id)


def _has_detail(error: grpc.aio.AioRpcError) -> bool:
    trailers = error.trailing_metadata()
    return unpack_error(tuple(trailers) if trailers else ()) is not None


def _may_have_happened(error: GrottoError) -> GrottoError:
    return type(error)(
        f"{error.message} It is not known whether the call took effect.",
        hint="Look before you repeat it.",
        request_id=error.request_id,
    )


def _untransferable(detail: errors_pb2.ErrorDetail, request_id: str) -> UntransferableError:
    # The message starts with "<path> : <type name>"; what does not is shown as it came.
    match = _OFFENDING_PART.match(detail.message)
    return UntransferableError(
        printable(detail.message),
        path=printable(match["path"]) if match else "",
        type_name=printable(match["type"]) if match else "",
        hint=printable(detail.hint),
        request_id=request_id,
    )


def _taken(done: asyncio.Task[grpc.aio.Metadata], turn: asyncio.Lock) -> None:
    turn.release()
    if not done.cancelled():
        done.exception()  # the replies tell it; asyncio would complain of it here
