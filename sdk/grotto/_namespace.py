"""Values of a session: into it, out of it, and what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from grotto._bound import Bound
from grotto._chunks import Gathering, chunks
from grotto._describe import describe
from grotto._records import Variable
from grotto._requests import UNSET, inject_request, retrieve_names
from grotto._values import decode, encode_items, size
from grotto.errors import GrottoError, UnavailableError, UntransferableError, ValueTooLargeError
from grotto_proto.v1 import sessions_pb2, values_pb2
from grotto_wire.values import BadEnvelope, Untransferable

MAX_RETRIEVED_BYTES = 4 * 1024**3
"""What this client allocates for one retrieved value at most, whatever the session allows."""


class Namespace(Bound):
    """The part of `AsyncSession` that moves and describes values."""

    async def inject(
        self,
        name_or_items: str | Mapping[str, object] | None = None,
        value: object = UNSET,
        /,
        *,
        description: str | Mapping[str, str] | None = None,
        **items: object,
    ) -> None:
        """Binds values in the session, all or none; see `grotto.Session.inject`."""
        bound, descriptions = inject_request(name_or_items, value, description, items)
        segments, size_bytes = await asyncio.to_thread(_encode, bound)
        limit = self._info.limits.value_bytes
        if limit is not None and size_bytes > int(limit):
            raise ValueTooLargeError(
                f"The value has {size_bytes:,} bytes; the limit of this session is {limit:,}.",
                hint="Inject it in parts, or create the session with a larger value_bytes.",
            )
        header = sessions_pb2.PutValueHeader(
            session_id=self.id,
            spec=values_pb2.PutSpec(
                names=list(bound), size_bytes=size_bytes, descriptions=descriptions
            ),
        )
        async with self._turn:
            await self._transport.send(
                self._transport.stub.PutValue,
                lambda: self._put_requests(header, segments, ", ".join(bound)),
            )

    async def _put_requests(
        self, header: sessions_pb2.PutValueHeader, segments: list[Any], name: str
    ) -> AsyncIterator[sessions_pb2.PutValueRequest]:
        yield sessions_pb2.PutValueRequest(header=header)
        for chunk in self._reported(chunks(segments), "inject", name, header.spec.size_bytes):
            yield sessions_pb2.PutValueRequest(chunk=chunk)

    async def retrieve(self, *names: str) -> Any:
        """Returns one object, or a tuple of several; see `grotto.Session.retrieve`."""
        checked = retrieve_names(names)
        payload = await self._receive(checked)
        values = await asyncio.to_thread(_decode, payload, len(checked))
        return values[0] if len(checked) == 1 else values

    async def _receive(self, names: list[str]) -> memoryview:
        limit = int(self._info.limits.value_bytes or MAX_RETRIEVED_BYTES)
        request = sessions_pb2.GetValueRequest(
            session_id=self.id, spec=values_pb2.GetSpec(names=names)
        )
        attempts = self._transport.attempts()
        while True:
            try:
                return await self._receive_once(
                    request, ", ".join(names), min(limit, MAX_RETRIEVED_BYTES)
                )
            except UnavailableError as error:
                await attempts.again(error)

    async def _receive_once(
        self, request: sessions_pb2.GetValueRequest, name: str, max_bytes: int
    ) -> memoryview:
        gathering: Gathering | None = None
        parts = self._transport.stream(self._transport.stub.GetValue, request, self._turn)
        async with aclosing(parts):
            async for part in parts:
                if gathering is None:
                    if part.WhichOneof("part") != "size_bytes":
                        raise GrottoError("The sandbox sent a value without its size.")
                    gathering = Gathering(part.size_bytes, max_bytes)
                else:
                    gathering.add(part.chunk)
                    self._report("retrieve", name, gathering.done_bytes, gathering.size_bytes)
        if gathering is None:
            raise UnavailableError("The value did not come.")
        return gathering.complete()

    async def variables(self) -> list[Variable]:
        """Returns what the namespace holds, in the order it was bound."""
        request = sessions_pb2.DescribeNamespaceRequest(session_id=self.id)
        async with self._turn:
            reply = await self._transport.unary(self._transport.stub.DescribeNamespace, request)
        return [Variable.from_wire(variable) for variable in reply.variables]

    async def describe(self) -> str:
        """Returns text for a model's prompt: names, signatures, types, docs, descriptions."""
        return describe(await self.variables())

    async def delete(self, *names: str) -> None:
        """Unbinds names, all or none; raises NotFoundError when one is not bound."""
        request = sessions_pb2.DeleteVariablesRequest(
            session_id=self.id, spec=values_pb2.DeleteSpec(names=retrieve_names(names))
        )
        async with self._turn:
            await self._transport.once(self._transport.stub.DeleteVariables, request)

    async def reset(self) -> None:
        """Starts a fresh interpreter: every variable goes, files stay."""
        request = sessions_pb2.ResetRequest(session_id=self.id)
        async with self._turn:
            await self._transport.once(self._transport.stub.Reset, request)


def _encode(items: dict[str, object]) -> tuple[list[Any], int]:
    try:
        segments = encode_items(items)
    except Untransferable as error:
        raise UntransferableError(str(error), path=error.path, type_name=error.type_name) from error
    return segments, size(segments)


def _decode(payload: memoryview, expected: int) -> tuple[Any, ...]:
    try:
        values = decode(payload)
    except BadEnvelope as error:
        raise GrottoError(f"What the sandbox sent is no value: {error}.") from error
    if not isinstance(values, tuple) or len(values) != expected:
        raise GrottoError("The sandbox sent another number of values than was asked for.")
    return values
