"""The record of one execution: its events, bounded, for whoever follows it, as often as asked.

A slow or absent reader never blocks the worker: what fits the output limit is
kept here, the rest is dropped and counted.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from grotto_proto.v1 import execution_pb2 as pb
from grotto_runtime.errors import invalid, not_found
from grotto_wire.frames import MAX_BUNDLE_BYTES

MAX_BATCH_BYTES = 1024 * 1024
MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 32 * 1024 * 1024
MAX_PARTS = 32
MAX_MIME_CHARS = 200
EVENT_BYTES = 64
"""What an event counts beside its content, so that empty ones are not free."""


@dataclass
class _Text:
    """Output of one stream that came without other events in between."""

    kind: str
    data: bytearray

    def wire(self, text: bytes) -> pb.Event:
        return pb.Event(stdout=text) if self.kind == "stdout" else pb.Event(stderr=text)


class Record:
    """Events of one execution. `finished` is set exactly once, last."""

    def __init__(self, execution_id: str, source: str, max_output_bytes: int) -> None:
        self.id = execution_id
        self.digest = hashlib.sha256(source.encode()).digest()
        self.finished: pb.Finished | None = None
        self.size_bytes = 0
        self.dropped_bytes = 0
        self.followers = 0
        self._max_bytes = max_output_bytes
        self._events: list[pb.Event | _Text] = []
        self._changed: list[asyncio.Future[None]] = []

    def stdout(self, data: bytes) -> None:
        self._text("stdout", data)

    def stderr(self, data: bytes) -> None:
        self._text("stderr", data)

    def display(self, data: dict[str, bytes], is_result: bool) -> None:
        """Keeps a bundle whole or not at all. A hostile one is judged before it is built."""
        if len(data) > MAX_PARTS or any(len(mime) > MAX_MIME_CHARS for mime in data):
            self.dropped_bytes += 1
            return
        size = EVENT_BYTES + sum(len(content) for content in data.values())
        if size > min(MAX_BUNDLE_BYTES, self._max_bytes - self.size_bytes):
            self.dropped_bytes += size
            return
        self.size_bytes += size
        bundle = pb.MimeBundle(data=data)
        self._append(pb.Event(result=bundle) if is_result else pb.Event(display=bundle))

    def finish(self, finished: pb.Finished) -> None:
        finished.dropped_bytes = self.dropped_bytes
        self.finished = finished
        self._append(pb.Event(finished=finished))

    def forget_output(self) -> None:
        """Gives the memory of a finished execution back, but for its outcome."""
        assert self.finished is not None
        self.finished.dropped_bytes += self.size_bytes
        self._events = [pb.Event(finished=self.finished)]
        self.size_bytes = 0

    async def follow(self) -> AsyncIterator[pb.EventBatch]:
        """Yields all events from the first, in batches, until the execution has finished."""
        position, offset = 0, 0
        self.followers += 1
        try:
            while True:
                batch, position, offset = self._batch(position, offset)
                if batch.events:
                    yield batch
                elif self.finished:
                    return
                else:
                    await self._wait()
        finally:
            self.followers -= 1

    def _text(self, kind: str, data: bytes) -> None:
        """Keeps output up to the limit; it joins the last of its kind, so that bytes cost bytes."""
        kept = data[: max(0, self._max_bytes - self.size_bytes)]
        self.size_bytes += len(kept)
        self.dropped_bytes += len(data) - len(kept)
        if not kept:
            return
        last = self._events[-1] if self._events else None
        if isinstance(last, _Text) and last.kind == kind and len(last.data) < MAX_BATCH_BYTES:
            last.data += kept
            self._wake()
        else:
            self._append(_Text(kind, bytearray(kept)))

    def _append(self, event: "pb.Event | _Text") -> None:
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _batch(self, position: int, offset: int) -> tuple[pb.EventBatch, int, int]:
        """Returns what came after (position, offset in that event's text), and the new place."""
        batch, size = pb.EventBatch(), 0
        while position < len(self._events):
            event = self._events[position]
            if isinstance(event, _Text):
                text = bytes(memoryview(event.data)[offset:])
                wire, length = event.wire(text), len(text)
            else:
                wire, length = event, event.ByteSize()
            if batch.events and size + length > MAX_BATCH_BYTES:
                break
            if length:
                batch.events.append(wire)
                size += length
            if isinstance(event, _Text) and position == len(self._events) - 1:
                return batch, position, len(event.data)  # it may still grow
            position, offset = position + 1, 0
        return batch, position, offset

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        await future


class Records:
    """The executions of a session by id: running ones, and the last finished ones."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()

    def open(self, execution_id: str, source: str, max_output_bytes: int) -> tuple[Record, bool]:
        """Returns (record, whether it is new); the same id with other source is refused."""
        record = self._records.get(execution_id)
        if record is None:
            record = Record(execution_id, source, max_output_bytes)
            self._records[execution_id] = record
            self._trim()
            return record, True
        if record.digest != hashlib.sha256(source.encode()).digest():
            raise invalid(
                f"execution id {execution_id} was already used for other source",
                "use a new id for new source",
            )
        return record, False

    def find(self, execution_id: str) -> Record:
        record = self._records.get(execution_id)
        if record is None:
            raise not_found(
                f"the session knows no execution {execution_id}",
                f"outcomes of the last {MAX_REMEMBERED} executions are kept",
            )
        return record

    def discard(self, record: Record) -> None:
        """Forgets an execution that was never queued."""
        self._records.pop(record.id, None)

    def _trim(self) -> None:
        done = [record for record in self._records.values() if record.finished]
        for record in done[: max(0, len(done) - MAX_REMEMBERED)]:
            del self._records[record.id]
        held = sum(record.size_bytes for record in done)
        for record in done:
            if held <= MAX_REMEMBERED_BYTES or record.followers:
                break
            held -= record.size_bytes
            record.forget_output()
