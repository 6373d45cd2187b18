"""Checks of what a daemon answers, before any of it goes further."""

import math
import re
from collections.abc import Iterable

from grotto_control.core.chunks import chunk_bytes
from grotto_control.model.limits import MAX_CHUNK_BYTES, MIB
from grotto_control.model.records import Isolation, SandboxHello
from grotto_control.model.text import visible
from grotto_control.runtime_client.faults import misbehaved
from grotto_proto import WIRE_VERSION
from grotto_proto.v1 import execution_pb2, runtime_pb2, sessions_pb2

LEVELS = frozenset({"full", "reduced", "container", "none"})
MAX_WORDS = 64
MAX_WORD_CHARS = 128
MAX_NOTE_CHARS = 500
STREAM_OVERHEAD_BYTES = 8 * MIB
"""What an execution may send besides its output: traceback, violations, framing."""

_PYTHON_VERSION = re.compile(r"[0-9a-z.+]{1,32}")
_OUTCOMES = frozenset(execution_pb2.Outcome.values()) - {execution_pb2.OUTCOME_UNSPECIFIED}
_STATES = frozenset(execution_pb2.State.values()) - {execution_pb2.STATE_UNSPECIFIED}


def hello(reply: runtime_pb2.HandshakeReply, backend: str) -> SandboxHello:
    """Returns the checked handshake; raises Internal."""
    if reply.wire_version != WIRE_VERSION:
        raise misbehaved(f"it speaks wire version {reply.wire_version}, not {WIRE_VERSION}")
    if not _PYTHON_VERSION.fullmatch(reply.python_version):
        raise misbehaved("its Python version is no version")
    return SandboxHello(
        python_version=reply.python_version,
        codecs=_words(reply.codecs),
        isolation=isolation(reply.isolation, backend),
        session_id=visible(reply.session_id, MAX_WORD_CHARS) if reply.bound else None,
    )


def isolation(reply: sessions_pb2.Isolation, backend: str) -> Isolation:
    """Returns the checked isolation; the backend's name is ours, whatever the daemon says."""
    if reply.level not in LEVELS or len(reply.notes) > MAX_WORDS:
        raise misbehaved("its isolation is not one we know")
    notes = {
        visible(key, MAX_WORD_CHARS): visible(value, MAX_NOTE_CHARS)
        for key, value in reply.notes.items()
    }
    return Isolation(backend, reply.level, _words(reply.layers), _words(reply.missing), notes)


def usage(reply: sessions_pb2.Usage) -> sessions_pb2.Usage:
    if not all(math.isfinite(value) and value >= 0 for value in (reply.wall_s, reply.cpu_s)):
        raise misbehaved("its usage is not a number")
    return reply


class EventCheck:
    """Follows the stream of one execution: bounded, sound enums, the outcome once and last."""

    def __init__(self, max_bytes: int) -> None:
        self._left_bytes = max_bytes + STREAM_OVERHEAD_BYTES
        self.finished: execution_pb2.Finished | None = None

    def check(self, batch: execution_pb2.EventBatch | None) -> None:
        """Raises Internal if the batch must not be passed on; None is one gRPC could not read."""
        if batch is None:
            raise misbehaved("it sent what cannot be read")
        self._left_bytes -= batch.ByteSize() + 1
        if self._left_bytes < 0:
            raise misbehaved("it sent more output than the execution may have")
        for event in batch.events:
            if self.finished is not None:
                raise misbehaved("it went on after the outcome")
            kind = event.WhichOneof("kind")
            if kind is None:
                raise misbehaved("it sent an event of no known kind")
            if kind == "finished":
                self.finished = _checked_end(event.finished)

    def end(self) -> execution_pb2.Finished:
        """Returns the outcome; raises Internal if the stream ended without one."""
        if self.finished is None:
            raise misbehaved("it ended an execution without an outcome")
        return self.finished


class ChunkCheck:
    """Follows a stream of chunks whose total is declared first."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        if size_bytes > max_bytes:
            raise misbehaved("it declared more bytes than were allowed")
        self._left_bytes = size_bytes

    def check(self, raw: bytes) -> None:
        size = chunk_bytes(raw)
        if size is None or not 0 < size <= MAX_CHUNK_BYTES:
            raise misbehaved("it sent something that is not a chunk")
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise misbehaved("it sent more bytes than it declared")

    def end(self) -> None:
        if self._left_bytes:
            raise misbehaved("it sent fewer bytes than it declared")


def _checked_end(finished: execution_pb2.Finished) -> execution_pb2.Finished:
    if finished.outcome not in _OUTCOMES or finished.state not in _STATES:
        raise misbehaved("its outcome is not one we know")
    return finished


def _words(words: Iterable[str]) -> tuple[str, ...]:
    found = tuple(visible(word, MAX_WORD_CHARS) for word in words)
    if len(found) > MAX_WORDS:
        raise misbehaved("it sent too long a list")
    return found
