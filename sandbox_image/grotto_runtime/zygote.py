"""The daemon's side of the zygote: makes new workers from it."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from grotto_proto.v1 import errors_pb2
from grotto_runtime.channel import ChannelClosed, DaemonChannel
from grotto_runtime.errors import RuntimeFailure
from grotto_runtime.incarnation import Incarnation
from grotto_runtime.processes import Reaper
from grotto_wire import frames

PREPARE_S = 60.0
SPAWN_S = 15.0


class Zygote:
    """A prepared process that forks workers on request."""

    def __init__(self, pid: int, channel: DaemonChannel, reaper: Reaper) -> None:
        self.pid = pid
        self.layers: list[str] = []
        self.missing: list[str] = []
        self._channel = channel
        self._reaper = reaper
        self._ids = itertools.count(1)
        self._spare: tuple[Incarnation, list[str]] | None = None

    async def prepare(self, request: frames.Prepare) -> None:
        """Hardens it and has it import what workers need; raises RuntimeFailure."""
        hello = await self._ask(request, (), PREPARE_S)
        self.layers, self.missing = list(hello.layers), list(hello.missing)

    async def spawn_spare(self) -> None:
        """Spawns the next worker ahead of its need."""
        self._spare = await self._spawn()

    async def spawn(
        self, configure: frames.Configure, on_frame: Callable[[Any], None]
    ) -> tuple[Incarnation, list[str]]:
        """Returns a new, configured worker and the layers it added for itself.

        Takes the spare one if there is one; raises RuntimeFailure.
        """
        spare, self._spare = self._spare, None
        if spare is not None and spare[0].exited.done():
            spare[0].close()
            spare = None
        worker, layers = spare or await self._spawn()
        worker.on_frame = on_frame
        try:
            done = await asyncio.wait_for(worker.channel.request(configure), SPAWN_S)
        except (TimeoutError, ChannelClosed) as error:
            worker.close()
            raise _broken("a new interpreter could not be set up") from error
        worker.start_reading()
        return worker, [*layers, *done.layers]

    async def _spawn(self) -> tuple[Incarnation, list[str]]:
        worker = Incarnation(self._reaper)
        request = frames.Spawn(next(self._ids))
        try:
            hello = worker.channel.expect(request.id)
            await self._ask(request, worker.descriptors, SPAWN_S)
            worker.handed_over()
            layers = (await asyncio.wait_for(hello, SPAWN_S)).layers
        except (TimeoutError, ChannelClosed) as error:
            worker.close()
            raise _broken("a new interpreter could not be started") from error
        worker.born()
        return worker, list(layers)

    def close(self) -> None:
        if self._spare is not None:
            self._spare[0].close()
        self._channel.close()

    async def _ask(self, request: Any, descriptors: tuple[int, ...], within_s: float) -> Any:
        try:
            return await asyncio.wait_for(self._channel.request(request, descriptors), within_s)
        except (TimeoutError, ChannelClosed) as error:
            raise _broken("the process that new interpreters come from does not answer") from error


def _broken(message: str) -> RuntimeFailure:
    return RuntimeFailure(
        errors_pb2.ERROR_REASON_INTERNAL, message, "close the session and open a new one"
    )
