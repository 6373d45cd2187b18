"""Learns when containers end: from the engine's events, and from what it lists.

Events are fast and may be missed while the engine restarts; a list is what is true.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

import structlog

from grotto_control.backends.docker.engine import Engine, EngineError, EngineUnreachable
from grotto_control.backends.docker.template import SERVER_LABEL

MAX_REMEMBERED = 1024
RECONNECT_S = 1.0
_KILLED = 128  # what a shell adds to the number of the signal that ended a process


class Deaths:
    """The ends of this server's containers, by container id."""

    def __init__(self, engine: Engine, server_id: str) -> None:
        self._engine = engine
        self._filters = {
            "type": ["container"],
            "event": ["die"],
            "label": [f"{SERVER_LABEL}={server_id}"],
        }
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._trouble = ""
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Reads events until it is cancelled, from engine to engine."""
        while True:
            try:
                async for event in self._engine.events(self._filters):
                    self._readable("")
                    if event:
                        self._note(event)
            except (EngineUnreachable, EngineError) as error:
                self._readable(str(error))
            await asyncio.sleep(RECONNECT_S)

    async def wait(self, container_id: str) -> str:
        """Returns how a container ended, once it has."""
        if (note := self._ended.get(container_id)) is not None:
            return note
        return await asyncio.shield(self.expect(container_id))

    def expect(self, container_id: str) -> asyncio.Future[str]:
        """Has the end of a container noted by what is listed, too, from now on."""
        future = self._waiting.get(container_id)
        if future is None:
            future = self._waiting[container_id] = asyncio.get_running_loop().create_future()
        return future

    def ended(self, container_id: str) -> str | None:
        """Returns how a container ended if it is known that it did."""
        return self._ended.get(container_id)

    def waiting(self) -> frozenset[str]:
        """Returns the containers that somebody waits for; to be taken before a list is."""
        return frozenset(self._waiting)

    def listed(self, waiting: frozenset[str], running: Iterable[str]) -> None:
        """Ends the waits for what the engine, asked after `waiting` was taken, does not run."""
        for container_id in waiting.difference(running):
            self._end(container_id, "is gone")

    def _readable(self, trouble: str) -> None:
        """Says each change once, however often it is tried again."""
        if trouble and trouble != self._trouble:
            self._log.warning("engine events not readable", error=trouble)
        self._trouble = trouble

    def _note(self, event: dict[str, object]) -> None:
        actor = event.get("Actor")
        if isinstance(actor, dict) and isinstance(actor.get("ID"), str):
            attributes = actor.get("Attributes") or {}
            self._end(actor["ID"], _how(str(attributes.get("exitCode", ""))))

    def _end(self, container_id: str, note: str) -> None:
        self._ended.setdefault(container_id, note)
        while len(self._ended) > MAX_REMEMBERED:
            self._ended.popitem(last=False)
        future = self._waiting.pop(container_id, None)
        if future is not None and not future.done():
            future.set_result(note)


def _how(exit_code: str) -> str:
    if not exit_code.isdecimal():
        return "has ended"
    if int(exit_code) > _KILLED:
        return f"was killed by signal {int(exit_code) - _KILLED}"
    return f"ended with status {int(exit_code)}"
