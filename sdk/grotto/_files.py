"""The local end of uploads and downloads: bounded reads, and writes that appear whole or not."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

from grotto._chunks import CHUNK_BYTES
from grotto.errors import GrottoError, InvalidArgumentError


class FileSource:
    """A regular local file to be uploaded; it must not change size meanwhile."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise InvalidArgumentError(f"{self._path} cannot be read: {error.strerror}.") from error
        self.size_bytes = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields the content from its start; raises GrottoError when the size changed."""
        self._file.seek(0)
        left = self.size_bytes
        while left:
            chunk = await asyncio.to_thread(self._file.read, min(CHUNK_BYTES, left))
            if not chunk:
                raise GrottoError(f"{self._path} became shorter while it was read.")
            left -= len(chunk)
            yield chunk


class FileTarget:
    """A local file to be downloaded into: written beside it, then renamed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part")
        self.done_bytes = 0
        if self._path.is_dir():
            raise InvalidArgumentError(f"{self._path} is a directory; name the file.")

    def __enter__(self) -> Self:
        try:
            self._file = self._partial.open("xb")
        except OSError as error:
            raise InvalidArgumentError(
                f"{self._path} cannot be written: {error.strerror}."
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    async def write(self, chunk: bytes, total_bytes: int) -> None:
        """Appends a chunk; raises GrottoError when more comes than was announced."""
        if self.done_bytes + len(chunk) > total_bytes:
            raise GrottoError("The sandbox sent more bytes than it had announced.")
        await asyncio.to_thread(self._file.write, chunk)
        self.done_bytes += len(chunk)

    def complete(self, total_bytes: int) -> None:
        """Puts the file in its place; raises GrottoError when it is not whole."""
        if self.done_bytes != total_bytes:
            raise GrottoError(
                f"The transfer was cut: {self.done_bytes:,} of {total_bytes:,} bytes came."
            )
        self._file.close()
        self._partial.replace(self._path)
