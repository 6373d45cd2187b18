"""What this server has on an engine: containers and volumes, known by their seals alone.

Nothing here is taken for ours by its name, and nothing of others is ever removed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from grotto_control.backends.docker.engine import Engine, EngineError, filters_json
from grotto_control.backends.docker.identity import Identity
from grotto_control.backends.docker.template import SERVER_LABEL, container_name
from grotto_control.core.backend import Found
from grotto_control.model.records import SandboxHandle

REMOVAL_S = 30.0
REMOVAL_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Listing:
    """What an engine listed at one moment."""

    found: Sequence[Found]
    """Containers, and volumes whose container is gone."""
    running: Sequence[str]
    """Ids of the containers that have not ended."""


class Holdings:
    """The containers and volumes of one server on one engine."""

    def __init__(self, engine: Engine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    async def listing(self) -> Listing:
        """Raises EngineError or EngineUnreachable."""
        asked = {"all": "1", "filters": self._ours()}
        containers = await self._engine.call("GET", "/containers/json", asked)
        found = [
            Found(found_handle(sandbox_id, one["Id"]), float(one["Created"]))
            for one in containers
            if (sandbox_id := self._identity.sandbox_of(one["Labels"] or {})) is not None
        ]
        there = {one.handle.sandbox_id for one in found}
        left = [
            Found(found_handle(sandbox_id, None), _seconds(one.get("CreatedAt", "")))
            for sandbox_id, one in await self._volumes()
            if sandbox_id not in there
        ]
        running = [one["Id"] for one in containers if one["State"] not in ("exited", "dead")]
        return Listing(found + left, running)

    async def remove(self, sandbox_id: str, container_id: str | None) -> None:
        """Removes a sandbox's container and volume; what is not there is no error.

        Raises EngineError, EngineUnreachable or TimeoutError.
        """
        container_id = container_id or await self._sealed(sandbox_id)
        if container_id is None or not await self._removed(container_id):
            await self._remove_volumes(sandbox_id)

    async def _sealed(self, sandbox_id: str) -> str | None:
        """Returns the container of a sandbox; what somebody else has named like it is not it."""
        try:
            path = f"/containers/{container_name(sandbox_id)}/json"
            found = await self._engine.call("GET", path)
        except EngineError as error:
            if error.status != 404:
                raise
            return None
        is_ours = self._identity.sandbox_of(found["Config"]["Labels"] or {}) == sandbox_id
        return str(found["Id"]) if is_ours else None

    async def _removed(self, container_id: str) -> bool:
        """Returns when the container is gone; whether this removed it, volume and all."""
        call = ("DELETE", f"/containers/{container_id}", {"force": "1", "v": "1"})
        async with asyncio.timeout(REMOVAL_S):
            while True:
                try:
                    await self._engine.call(*call)
                    return True
                except EngineError as error:
                    if error.status == 404:
                        return False
                    if error.status != 409:  # 409: the engine is removing it already
                        raise
                await asyncio.sleep(REMOVAL_POLL_S)

    async def _remove_volumes(self, sandbox_id: str) -> None:
        for owner, volume in await self._volumes():
            if owner == sandbox_id:
                try:
                    await self._engine.call("DELETE", f"/volumes/{volume['Name']}")
                except EngineError as error:
                    if error.status != 404:
                        raise

    async def _volumes(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Returns (sandbox id, volume) of each that is ours."""
        reply = await self._engine.call("GET", "/volumes", {"filters": self._ours()})
        return [
            (sandbox_id, one)
            for one in reply.get("Volumes") or []
            if (sandbox_id := self._identity.sandbox_of(one.get("Labels") or {})) is not None
        ]

    def _ours(self) -> str:
        return filters_json({"label": [f"{SERVER_LABEL}={self._identity.server_id}"]})


def found_handle(sandbox_id: str, container_id: str | None) -> SandboxHandle:
    """Returns a handle that is good for `destroy` alone."""
    return SandboxHandle(sandbox_id, 0, 0, "", container_id=container_id)


def _seconds(stamp: str) -> float:
    with suppress(ValueError):
        return datetime.fromisoformat(stamp).timestamp()
    return 0.0
