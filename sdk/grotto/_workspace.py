"""Files of a session's workspace: upload, download, list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from os import PathLike

from grotto._bound import Bound
from grotto._files import FileSource, FileTarget
from grotto._records import Files
from grotto._requests import check_path
from grotto.errors import GrottoError, UnavailableError
from grotto_proto.v1 import sessions_pb2, values_pb2


class Workspace(Bound):
    """The part of `AsyncSession` that moves files."""

    async def upload(self, local: str | PathLike[str], remote: str) -> None:
        """Copies a local file into the workspace; see `grotto.Session.upload`."""
        path = check_path(remote)
        with FileSource(local) as source:
            await self._transport.send(
                self._transport.stub.UploadFile, lambda: self._upload_requests(source, path)
            )

    async def _upload_requests(
        self, source: FileSource, path: str
    ) -> AsyncIterator[sessions_pb2.UploadFileRequest]:
        spec = values_pb2.FileSpec(path=path, size_bytes=source.size_bytes)
        header = sessions_pb2.UploadFileHeader(session_id=self.id, spec=spec)
        yield sessions_pb2.UploadFileRequest(header=header)
        done_bytes = 0
        async for chunk in source.chunks():
            yield sessions_pb2.UploadFileRequest(chunk=chunk)
            done_bytes += len(chunk)
            self._report("upload", path, done_bytes, source.size_bytes)

    async def download(self, remote: str, local: str | PathLike[str]) -> None:
        """Copies a workspace file to a local one; see `grotto.Session.download`."""
        path = check_path(remote)
        request = sessions_pb2.DownloadFileRequest(session_id=self.id, path=path)
        attempts = self._transport.attempts()
        while True:
            try:
                with FileTarget(local) as target:
                    await self._download_once(request, target)
                return
            except UnavailableError as error:
                await attempts.again(error)

    async def _download_once(
        self, request: sessions_pb2.DownloadFileRequest, target: FileTarget
    ) -> None:
        total_bytes: int | None = None
        parts = self._transport.stream(self._transport.stub.DownloadFile, request)
        async with aclosing(parts):
            async for part in parts:
                if total_bytes is None:
                    if part.WhichOneof("part") != "info":
                        raise GrottoError("The sandbox sent a file without its size.")
                    total_bytes = part.info.size_bytes
                else:
                    await target.write(part.chunk, total_bytes)
                    self._report("download", request.path, target.done_bytes, total_bytes)
        if total_bytes is None:
            raise UnavailableError("The file did not come.")
        target.complete(total_bytes)

    async def files(self, path: str = "") -> Files:
        """Lists a directory of the workspace, or all of it; see `grotto.Session.files`."""
        request = sessions_pb2.ListFilesRequest(
            session_id=self.id, path=check_path(path) if path else ""
        )
        return Files(await self._transport.unary(self._transport.stub.ListFiles, request))
