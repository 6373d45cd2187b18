"""What the server says about sessions, variables and files, as immutable values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from grotto.limits import Limits
from grotto_proto.v1 import sessions_pb2, values_pb2


def finite(number: float) -> float:
    """Returns a number a sandbox reported; 0 for what cannot be an amount."""
    return number if math.isfinite(number) and number >= 0 else 0.0


class SessionStatus(StrEnum):
    """Whether a session's sandbox is there."""

    READY = "ready"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is really in force around a session, as probed inside its sandbox.

    `level` is "full", "reduced", "container" or "none"; `missing` names layers of this backend
    that are not in force.
    """

    backend: str
    level: str
    layers: tuple[str, ...]
    missing: tuple[str, ...]
    notes: Mapping[str, str]

    def __str__(self) -> str:
        missing = f"; missing: {', '.join(self.missing)}" if self.missing else ""
        return f"{self.backend}, level {self.level}: {', '.join(self.layers)}{missing}"

    @classmethod
    def from_wire(cls, message: sessions_pb2.Isolation) -> Isolation:
        return cls(
            message.backend,
            message.level,
            tuple(message.layers),
            tuple(message.missing),
            dict(message.notes),
        )


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session of this key's tenant; times are Unix seconds."""

    id: str
    status: SessionStatus
    status_note: str
    image: str
    """The server's name of what the sandbox was made of; "" where its backend has no images."""
    policy: str
    limits: Limits
    labels: Mapping[str, str]
    created_s: float
    expires_s: float
    isolation: Isolation
    python_version: str

    @classmethod
    def from_wire(cls, message: sessions_pb2.Session) -> SessionInfo:
        lost = message.status == sessions_pb2.SESSION_STATUS_LOST
        return cls(
            id=message.id,
            status=SessionStatus.LOST if lost else SessionStatus.READY,
            status_note=message.status_note,
            image=message.image,
            policy=message.policy,
            limits=Limits.from_wire(message.limits),
            labels=dict(message.labels),
            created_s=message.created_s,
            expires_s=message.expires_s,
            isolation=Isolation.from_wire(message.isolation),
            python_version=message.python_version,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session used since it began; `worker_pid` as the sandbox numbers it."""

    wall_s: float
    cpu_s: float
    memory_bytes: int
    peak_memory_bytes: int
    executions: int
    processes: int
    worker_pid: int

    @classmethod
    def from_wire(cls, message: sessions_pb2.Usage) -> Usage:
        return cls(
            finite(message.wall_s),
            finite(message.cpu_s),
            message.memory_bytes,
            message.peak_memory_bytes,
            message.executions,
            message.processes,
            message.worker_pid,
        )


@dataclass(frozen=True, slots=True)
class Variable:
    """A name in a session's namespace; `origin` is "injected" or "created".

    `signature` and `doc` are of functions and classes, else empty.
    """

    name: str
    type: str
    size_bytes: int
    preview: str
    description: str
    origin: str
    signature: str
    doc: str

    @classmethod
    def from_wire(cls, message: values_pb2.Variable) -> Variable:
        return cls(
            message.name,
            message.type,
            message.size_bytes,
            message.preview,
            message.description,
            message.origin,
            message.signature,
            message.doc,
        )


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or directory of the workspace; `path` is relative to it."""

    path: str
    size_bytes: int
    modified_s: float
    is_directory: bool

    @classmethod
    def from_wire(cls, message: values_pb2.FileInfo) -> FileInfo:
        return cls(message.path, message.size_bytes, message.modified_s, message.is_directory)


class Files(list[FileInfo]):
    """A listing; `truncated` says that there are more files than the server lists."""

    def __init__(self, message: values_pb2.Files) -> None:
        super().__init__(map(FileInfo.from_wire, message.files))
        self.truncated = message.truncated
