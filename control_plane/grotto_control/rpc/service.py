"""The behaviours of the `Sessions` service, one per method and named like it.

Each checks the request, finds the tenant's session, and forwards to its daemon.
Payloads pass as opaque bytes.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from grotto_control.core import requests
from grotto_control.core.sessions import LiveSession, Sessions
from grotto_control.model.errors import ValueTooLarge
from grotto_control.rpc.guard import Call
from grotto_control.rpc.messages import session_message
from grotto_control.rpc.uploads import opening, whole
from grotto_proto.v1 import execution_pb2, sessions_pb2, values_pb2

_Item = TypeVar("_Item")
_Events = AsyncGenerator[execution_pb2.EventBatch, None]


class SessionsService:
    """Knows messages and `core.sessions`, no gRPC."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def CreateSession(
        self, request: sessions_pb2.CreateSessionRequest, call: Call
    ) -> sessions_pb2.Session:
        return session_message(await self._sessions.create(call.tenant, request))

    async def GetSession(
        self, request: sessions_pb2.GetSessionRequest, call: Call
    ) -> sessions_pb2.Session:
        return session_message(self._sessions.get(call.tenant, request.session_id).record)

    async def ListSessions(
        self, _request: sessions_pb2.ListSessionsRequest, call: Call
    ) -> sessions_pb2.ListSessionsReply:
        records = self._sessions.of_tenant(call.tenant)
        return sessions_pb2.ListSessionsReply(sessions=map(session_message, records))

    async def CloseSession(
        self, request: sessions_pb2.CloseSessionRequest, call: Call
    ) -> sessions_pb2.CloseSessionReply:
        await self._sessions.close(call.tenant, request.session_id)
        return sessions_pb2.CloseSessionReply()

    def Execute(self, request: sessions_pb2.ExecuteRequest, call: Call) -> _Events:
        async def opened(session: LiveSession) -> _Events:
            requests.check_execution(request.spec)
            return await session.runtime.execute(request.spec, session.record.limits.output_bytes)

        return self._forwarded(call, request.session_id, opened)

    def WatchExecution(self, request: sessions_pb2.WatchExecutionRequest, call: Call) -> _Events:
        async def opened(session: LiveSession) -> _Events:
            requests.check_execution_id(request.execution_id)
            return await session.runtime.watch(
                request.execution_id, session.record.limits.output_bytes
            )

        return self._forwarded(call, request.session_id, opened)

    async def Interrupt(
        self, request: sessions_pb2.InterruptRequest, call: Call
    ) -> sessions_pb2.InterruptReply:
        async with self._sessions.use(call.tenant, request.session_id) as session:
            return await session.runtime.interrupt()

    async def PutValue(
        self, messages: AsyncIterator[bytes], call: Call
    ) -> values_pb2.PutValueReply:
        header = (await opening(messages, sessions_pb2.PutValueRequest)).header
        async with self._sessions.use(call.tenant, header.session_id) as session:
            requests.check_put(header.spec, session.record.limits.value_bytes)
            chunks = whole(messages, header.spec.size_bytes)
            return await session.runtime.put_value(header.spec, chunks)

    def GetValue(
        self, request: sessions_pb2.GetValueRequest, call: Call
    ) -> AsyncGenerator[bytes, None]:
        async def opened(session: LiveSession) -> AsyncGenerator[bytes, None]:
            requests.check_names(len(request.spec.names))
            limit = session.record.limits.value_bytes
            max_bytes = min(request.spec.max_bytes or limit, limit)
            spec = values_pb2.GetSpec(names=request.spec.names, max_bytes=max_bytes)
            return await session.runtime.get_value(spec, max_bytes)

        return self._forwarded(call, request.session_id, opened)

    async def DescribeNamespace(
        self, request: sessions_pb2.DescribeNamespaceRequest, call: Call
    ) -> values_pb2.Variables:
        async with self._sessions.use(call.tenant, request.session_id) as session:
            return await session.runtime.describe()

    async def DeleteVariables(
        self, request: sessions_pb2.DeleteVariablesRequest, call: Call
    ) -> sessions_pb2.DeleteVariablesReply:
        async with self._sessions.use(call.tenant, request.session_id) as session:
            requests.check_names(len(request.spec.names))
            await session.runtime.delete(request.spec)
            return sessions_pb2.DeleteVariablesReply()

    async def Reset(
        self, request: sessions_pb2.ResetRequest, call: Call
    ) -> sessions_pb2.ResetReply:
        async with self._sessions.use(call.tenant, request.session_id) as session:
            await session.runtime.reset()
            return sessions_pb2.ResetReply()

    async def UploadFile(self, messages: AsyncIterator[bytes], call: Call) -> values_pb2.FileInfo:
        header = (await opening(messages, sessions_pb2.UploadFileRequest)).header
        async with self._sessions.use(call.tenant, header.session_id) as session:
            requests.check_path(header.spec.path)
            _check_fits_disk(header.spec.size_bytes, session)
            chunks = whole(messages, header.spec.size_bytes)
            return await session.runtime.upload(header.spec, chunks)

    def DownloadFile(
        self, request: sessions_pb2.DownloadFileRequest, call: Call
    ) -> AsyncGenerator[bytes, None]:
        async def opened(session: LiveSession) -> AsyncGenerator[bytes, None]:
            requests.check_path(request.path)
            limits = session.record.limits
            # A file may have holes: it can be larger than the disk that holds it.
            max_bytes = max(limits.disk_bytes, limits.value_bytes)
            return await session.runtime.download(values_pb2.FileSpec(path=request.path), max_bytes)

        return self._forwarded(call, request.session_id, opened)

    async def ListFiles(
        self, request: sessions_pb2.ListFilesRequest, call: Call
    ) -> values_pb2.Files:
        async with self._sessions.use(call.tenant, request.session_id) as session:
            requests.check_path(request.path, may_be_empty=True)
            return await session.runtime.list_files(values_pb2.FileSpec(path=request.path))

    async def GetUsage(
        self, request: sessions_pb2.GetUsageRequest, call: Call
    ) -> sessions_pb2.Usage:
        async with self._sessions.use(call.tenant, request.session_id) as session:
            return await session.runtime.usage()

    async def _forwarded(
        self,
        call: Call,
        session_id: str,
        opened: Callable[[LiveSession], Awaitable[AsyncGenerator[_Item, None]]],
    ) -> AsyncGenerator[_Item, None]:
        async with (
            self._sessions.use(call.tenant, session_id) as session,
            aclosing(await opened(session)) as items,
        ):
            await call.accepted()
            async for item in items:
                yield item


def _check_fits_disk(size_bytes: int, session: LiveSession) -> None:
    disk_bytes = session.record.limits.disk_bytes
    if size_bytes > disk_bytes:
        raise ValueTooLarge(
            f"the file has {size_bytes} bytes, the session's workspace {disk_bytes}.",
            "upload less, or create the session with a higher limits.disk.",
        )
