"""The session's workspace, walked so that no link and no special file leads out of it.

Every path component is opened relative to its parent's descriptor without
following links; only regular files with one link are read or replaced.
"""

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator

from grotto_proto.v1 import values_pb2
from grotto_runtime.errors import invalid, not_found

MAX_PATH_CHARS = 1024
MAX_DEPTH = 32
MAX_LISTED = 10_000
MAX_LISTING_BYTES = 3 * 1024 * 1024
"""With room to spare below what a gRPC message may hold."""
_OVERHEAD_BYTES = 8  # tag and length of one entry
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# For the group as for the owner: where daemon and worker are two users, it is what they share.
_NEW_FOLDER, _NEW_FILE = 0o775, 0o664
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Workspace:
    """Reads and writes files below one directory."""

    def __init__(self, root: str) -> None:
        self._root = root

    def open_for_read(self, path: str) -> tuple[int, values_pb2.FileInfo]:
        """Returns (descriptor, what it is) of a regular file; the caller closes it."""
        parts = _parts(path)
        with self._directory(parts[:-1], make=False) as parent, _explained(path):
            descriptor = os.open(parts[-1], _FILE, dir_fd=parent)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise invalid(f"{path!r} is not a regular file", "only regular files travel")
        return descriptor, _info("/".join(parts), found)

    def upload(self, path: str) -> "Upload":
        """Returns a file being written beside its place; `commit` puts it there."""
        parts = _parts(path)
        return Upload(self, parts)

    def listing(self, path: str) -> values_pb2.Files:
        """Returns what is below a directory, itself left out; links are left out too.

        `truncated` says that there is more than a reply can hold.
        """
        parts = _parts(path) if path not in ("", ".") else []
        files, left_bytes = values_pb2.Files(), MAX_LISTING_BYTES
        with self._directory(parts, make=False) as top, contextlib.ExitStack() as stack:
            stack.callback(os.close, copy := os.dup(top))
            for info in _walk(copy, "/".join(parts), MAX_DEPTH):
                left_bytes -= info.ByteSize() + _OVERHEAD_BYTES
                if left_bytes < 0 or len(files.files) >= MAX_LISTED:
                    files.truncated = True
                    break
                files.files.append(info)
        return files

    @contextlib.contextmanager
    def _directory(self, parts: list[str], make: bool) -> Iterator[int]:
        descriptor = os.open(self._root, _DIRECTORY)
        try:
            for part in parts:
                with _explained("/".join(parts)):
                    if make:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, _NEW_FOLDER, dir_fd=descriptor)
                    inner = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


class Upload:
    """A file that becomes visible, whole, when it is committed."""

    def __init__(self, workspace: Workspace, parts: list[str]) -> None:
        self._parts = parts
        self._temporary = f".upload-{uuid.uuid4().hex}"
        with workspace._directory(parts[:-1], make=True) as parent:
            self._parent = os.dup(parent)
        try:
            with _explained("/".join(parts)):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._file = os.open(self._temporary, flags, _NEW_FILE, dir_fd=self._parent)
        except BaseException:
            os.close(self._parent)
            raise

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with _explained("/".join(self._parts)):
            while view:
                view = view[os.write(self._file, view) :]

    def commit(self) -> values_pb2.FileInfo:
        with _explained("/".join(self._parts)):
            os.rename(
                self._temporary,
                self._parts[-1],
                src_dir_fd=self._parent,
                dst_dir_fd=self._parent,
            )
        return _info("/".join(self._parts), os.fstat(self._file))

    def close(self) -> None:
        """Releases the file; one that was not committed leaves nothing behind."""
        os.close(self._file)
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._parent)
        os.close(self._parent)


def _walk(descriptor: int, prefix: str, depth: int) -> Iterator[values_pb2.FileInfo]:
    with os.scandir(descriptor) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        with contextlib.suppress(OSError):
            status = os.stat(entry.name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield _info(path, status)
            elif stat.S_ISDIR(status.st_mode):
                yield _info(path, status)
                if depth > 1:
                    inner = os.open(entry.name, _DIRECTORY, dir_fd=descriptor)
                    try:
                        yield from _walk(inner, path, depth - 1)
                    finally:
                        os.close(inner)


def _info(path: str, status: os.stat_result) -> values_pb2.FileInfo:
    return values_pb2.FileInfo(
        path=path.encode("utf-8", "replace").decode(),
        size_bytes=status.st_size if stat.S_ISREG(status.st_mode) else 0,
        modified_s=status.st_mtime,
        is_directory=stat.S_ISDIR(status.st_mode),
    )


def _parts(path: str) -> list[str]:
    if not path or len(path) > MAX_PATH_CHARS or "\0" in path:
        raise invalid(f"a path has 1 to {MAX_PATH_CHARS} characters and no NUL")
    if path.startswith("/"):
        raise invalid(f"{path!r} is absolute", "paths are relative to the workspace")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or len(parts) > MAX_DEPTH:
        raise invalid(f"{path!r} does not name a place in the workspace", "leave out '..'")
    return parts


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turns what the kernel says into a sentence for the client."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found(f"the workspace has no {path!r}", "session.files() lists it") from error
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise invalid(f"{path!r} is not that kind of file: {error.strerror}") from error
    except PermissionError as error:
        raise invalid(
            f"{path!r} is closed to everybody but the code of the session",
            "have the session's code open it to its group, for instance with os.chmod(path, 0o660)",
        ) from error
    except OSError as error:
        raise invalid(
            f"{path!r} cannot be opened or written: {error.strerror}",
            "links are not followed; limits.disk may be used up",
        ) from error
