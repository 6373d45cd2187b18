"""HTTP/1.1 on both sides of the proxy, over `h11`. Knows nothing of what calls mean.

Bounded in everything: the size of a request's head and body, the time it may take to
arrive, the size of a reply that is not a stream.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h11

from grotto_control.engine_proxy.calls import Request
from grotto_control.engine_proxy.rules import Refused, require

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 128 * 1024
_CHUNK_BYTES = 64 * 1024
_LINGER_S, _LINGER_CHUNKS = 1.0, 64
_UNWANTED = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer"})
_KEPT = frozenset({b"content-type", b"api-version", b"docker-experimental", b"ostype"})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the control plane may take of the proxy, and the engine's answers too."""

    connections: int = 256
    arrival_s: float = 30.0
    """From the first byte of a request to its last."""
    reply_bytes: int = 64 * 1024 * 1024
    """Of an answer that is not a stream."""


class EngineAbsent(Exception):
    """The engine does not answer, or not in HTTP."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine answered; `chunks` ends with its body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    chunks: AsyncGenerator[bytes, None]

    async def whole(self, max_bytes: int) -> bytes:
        """Returns the body; raises EngineAbsent when it is larger, or breaks off."""
        body = bytearray()
        async with aclosing(self.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > max_bytes:
                    raise EngineAbsent("the engine's reply is too large")
        return bytes(body)


class Peer:
    """One connection of the control plane's."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, arrival_s: float
    ) -> None:
        self._arrival_s = arrival_s
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def request(self) -> Request | None:
        """Returns the next request, None when the peer is done.

        Raises Refused for one that is not plain; the connection has to be closed then.
        """
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        if not self._http.trailing_data[0]:
            first = await self._reader.read(_CHUNK_BYTES)  # as long as the peer likes to idle
            self._http.receive_data(first)
        try:
            async with asyncio.timeout(self._arrival_s):
                return await self._arrived()
        except h11.RemoteProtocolError as error:
            raise Refused("this is not a plain HTTP/1.1 request.", 400) from error
        except TimeoutError as error:
            raise Refused("the request took too long to arrive.", 408) from error

    async def while_there(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Returns what `work` returns; cancels it and raises OSError once the peer is gone.

        A peer that sends before it has its answer counts as gone.
        """
        task = asyncio.create_task(work)
        gone = asyncio.create_task(self._reader.read(1))
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise BrokenPipeError("the peer is gone")
            return task.result()
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    async def refuse(self, status: int, message: str) -> None:
        """Answers with a sentence and tells the peer that the connection ends."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = json.dumps({"message": message}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await self.reply(status, headers, body)

    async def reply(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        await self._send(h11.Response(status_code=status, headers=[*headers, *length]))
        if body:
            await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    async def stream(self, reply: Reply) -> None:
        """Passes a reply on as it comes."""
        headers = [*reply.headers, (b"transfer-encoding", b"chunked")]
        await self._send(h11.Response(status_code=reply.status, headers=headers))
        async with aclosing(reply.chunks) as chunks:
            async for chunk in chunks:
                await self._send(h11.Data(data=chunk))
        await self._send(h11.EndOfMessage())

    @property
    def goes_on(self) -> bool:
        """Whether another request may follow."""
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def close(self) -> None:
        """Ends the connection, and lets the peer read an answer it did not wait for."""
        with suppress(OSError, TimeoutError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
            async with asyncio.timeout(_LINGER_S):
                for _ in range(_LINGER_CHUNKS):
                    if not await self._reader.read(_CHUNK_BYTES):
                        break
        await _closed(self._writer)

    async def _arrived(self) -> Request | None:
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None  # the peer has closed its side
        _check_head(head)
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            require(len(body) <= MAX_BODY_BYTES, "the body is too large.", 413)
        return Request(head.method.decode(), head.target.decode("latin-1"), bytes(body))

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event

    async def _send(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()


class Upstream:
    """The engine behind its socket; every call has a connection of its own."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def send(self, method: str, target: str, body: bytes | None = None) -> Reply:
        """Returns the reply once its head is there; the caller closes its chunks.

        Raises EngineAbsent.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError as error:
            raise EngineAbsent(f"the engine does not answer: {error.strerror}") from error
        http = h11.Connection(h11.CLIENT)
        try:
            writer.write(_encoded(http, method, target, body))
            await writer.drain()
            events = _events(http, reader)
            head = await anext(events)
            while isinstance(head, h11.InformationalResponse):
                head = await anext(events)
        except (OSError, h11.RemoteProtocolError, StopAsyncIteration) as error:
            await _closed(writer)
            raise EngineAbsent("the engine's answer is not HTTP") from error
        except BaseException:
            await _closed(writer)
            raise
        kept = tuple(pair for pair in head.headers if pair[0] in _KEPT)
        return Reply(head.status_code, kept, _body(events, writer))


def _check_head(head: h11.Request) -> None:
    """Raises Refused for whatever could make two readers see two different requests."""
    require(head.http_version == b"1.1", "only HTTP/1.1 is spoken here.", 400)
    names = {name for name, _ in head.headers}
    for name in sorted(names & _UNWANTED):
        raise Refused(f"the header {name.decode()} is not taken here.", 400)
    for name, value in head.headers:
        if name == b"connection":
            plain = value.lower() in (b"keep-alive", b"close")
            require(plain, "the connection is kept or closed here, nothing else.", 400)
        elif name == b"content-length":
            require(int(value) <= MAX_BODY_BYTES, "the body is too large.", 413)


def _encoded(http: h11.Connection, method: str, target: str, body: bytes | None) -> bytes:
    headers = [("Host", "docker"), ("Connection", "close")]
    if body is not None:
        headers.append(("Content-Type", "application/json"))
    headers.append(("Content-Length", str(len(body or b""))))
    request = h11.Request(method=method, target=target, headers=headers)
    parts = (request, h11.Data(data=body or b""), h11.EndOfMessage())
    return b"".join(http.send(part) or b"" for part in parts)


async def _events(http: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[Any]:
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_CHUNK_BYTES))
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return
        else:
            yield event


async def _body(
    events: AsyncIterator[Any], writer: asyncio.StreamWriter
) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            yield bytes(event.data)
    except (OSError, h11.RemoteProtocolError) as error:
        raise EngineAbsent("the engine's answer broke off") from error
    finally:
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other side was faster
        await writer.wait_closed()
