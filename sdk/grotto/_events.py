"""Folds the wire's events of one execution into public events and the final `Execution`.

No I/O. Survives a stream that is cut and then repeated from its start: what was
already given is skipped. Everything is bounded: the sandbox is not trusted.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import TypeVar

from grotto._execution import (
    Bundle,
    Display,
    Event,
    Execution,
    ExecutionUsage,
    Finished,
    Outcome,
    Result,
    State,
    Stderr,
    Stdout,
    TenantError,
    Violation,
)
from grotto._records import finite
from grotto.errors import GrottoError
from grotto_proto.v1 import execution_pb2

MAX_COLLECTED_BYTES = 64 * 1024 * 1024
"""Output of one execution that is kept at the client, whatever the sandbox sends."""

_Enum = TypeVar("_Enum")

_TEXT_TYPES = ("text/", "application/json", "application/javascript", "image/svg+xml")


class Recorder:
    """Collects one execution's events; `finished` is set once the last one came."""

    def __init__(self, execution_id: str, max_bytes: int = MAX_COLLECTED_BYTES) -> None:
        self.finished: Execution | None = None
        self._id = execution_id
        self._room = max_bytes
        self._stdout = _Text()
        self._stderr = _Text()
        self._displays = _Items()
        self._results = _Items()
        self._overflow = False

    def rewind(self) -> None:
        """Call before a stream that was cut is read again from its start."""
        for part in (self._stdout, self._stderr, self._displays, self._results):
            part.rewind()

    def feed(self, batch: execution_pb2.EventBatch) -> Iterator[Event]:
        """Yields the new public events of a batch."""
        for event in batch.events:
            yield from self._one(event)

    def _one(self, event: execution_pb2.Event) -> Iterator[Event]:
        kind = event.WhichOneof("kind")
        if kind == "stdout":
            if text := self._stdout.feed(self._fit(event.stdout, self._stdout)):
                yield Stdout(text)
        elif kind == "stderr":
            if text := self._stderr.feed(self._fit(event.stderr, self._stderr)):
                yield Stderr(text)
        elif kind == "display":
            for bundle in self._take(event.display, self._displays):
                yield Display(bundle)
        elif kind == "result":
            for bundle in self._take(event.result, self._results):
                yield Result(_plain(bundle), bundle)
        elif kind == "finished":
            yield from self._finish(event.finished)

    def _fit(self, data: bytes, part: _Text) -> bytes:
        fresh = part.unseen(data)
        taken = fresh[: self._room]
        self._room -= len(taken)
        self._overflow |= len(taken) < len(fresh)
        return taken

    def _take(self, message: execution_pb2.MimeBundle, part: _Items) -> Iterator[Bundle]:
        if not part.is_new():
            return
        size = sum(len(kind) + len(data) for kind, data in message.data.items()) + 64
        if size > self._room:
            self._overflow = True
            return
        self._room -= size
        bundle = _bundle(message)
        part.kept.append(bundle)
        yield bundle

    def _finish(self, finished: execution_pb2.Finished) -> Iterator[Event]:
        if rest := self._stdout.end():
            yield Stdout(rest)
        if rest := self._stderr.end():
            yield Stderr(rest)
        self.finished = self._execution(finished)
        yield Finished(self.finished)

    def _execution(self, finished: execution_pb2.Finished) -> Execution:
        results = self._results.kept
        return Execution(
            id=self._id,
            outcome=_outcome(finished.outcome),
            state=_state(finished.state),
            state_note=finished.state_note,
            stdout="".join(self._stdout.kept),
            stderr="".join(self._stderr.kept),
            result=_plain(results[-1]) if results else None,
            displays=tuple(self._displays.kept),
            error=_error(finished),
            violations=tuple(map(_violation, finished.violations)),
            usage=ExecutionUsage(
                finite(finished.usage.wall_s),
                finite(finished.usage.cpu_s),
                finished.usage.peak_memory_bytes,
            ),
            truncated=bool(finished.dropped_bytes) or self._overflow,
        )


class _Text:
    """One output stream: bytes in, text out, a character split across events kept whole."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._seen = 0
        self._skip = 0

    def rewind(self) -> None:
        self._skip = self._seen

    def unseen(self, data: bytes) -> bytes:
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._seen += len(data) - skipped
        return data[skipped:]

    def feed(self, data: bytes) -> str:
        return self._keep(self._decoder.decode(data))

    def end(self) -> str:
        return self._keep(self._decoder.decode(b"", final=True))

    def _keep(self, text: str) -> str:
        if text:
            self.kept.append(text)
        return text


class _Items:
    """Displays or results, counted so that a repeated stream does not give them twice."""

    def __init__(self) -> None:
        self.kept: list[Bundle] = []
        self._seen = 0
        self._skip = 0

    def rewind(self) -> None:
        self._skip = self._seen

    def is_new(self) -> bool:
        if self._skip:
            self._skip -= 1
            return False
        self._seen += 1
        return True


def _bundle(message: execution_pb2.MimeBundle) -> Bundle:
    return {
        kind: data.decode("utf-8", "replace") if kind.startswith(_TEXT_TYPES) else data
        for kind, data in message.data.items()
    }


def _plain(bundle: Bundle) -> str:
    text = bundle.get("text/plain", "")
    return text if isinstance(text, str) else ""


def _outcome(value: execution_pb2.Outcome.ValueType) -> Outcome:
    return Outcome(_word(execution_pb2.Outcome.Name, value, "OUTCOME_"))


def _state(value: execution_pb2.State.ValueType) -> State:
    return State(_word(execution_pb2.State.Name, value, "STATE_"))


def _word(name_of: Callable[[_Enum], str], value: _Enum, prefix: str) -> str:
    try:
        word = name_of(value).removeprefix(prefix).lower()
    except ValueError:
        word = "unspecified"
    if word == "unspecified":
        raise GrottoError("The server reported an outcome that this client does not know.")
    return word


def _error(finished: execution_pb2.Finished) -> TenantError | None:
    if not finished.HasField("error"):
        return None
    error = finished.error
    return TenantError(error.name, error.message, error.traceback, error.line)


def _violation(message: execution_pb2.Violation) -> Violation:
    return Violation(
        message.layer,
        message.rule,
        message.what,
        message.line,
        message.column,
        message.why,
        message.hint,
    )
