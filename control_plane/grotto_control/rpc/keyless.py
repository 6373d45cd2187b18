"""Health and reflection: what is answered without a key, and so must stay cheap."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection


class Health(health.aio.HealthServicer):  # type: ignore[misc]  # it has no types
    """`Check` alone: a `Watch` has no end, and keeps the name of every service asked for."""

    async def Watch(self, _request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "use Check.")


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]  # nor has this
    """Reflection for so many peers at once."""

    def __init__(self, names: tuple[str, ...], max_running: int) -> None:
        super().__init__(names)
        self._free = max_running

    async def ServerReflectionInfo(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        if self._free <= 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "try again in a moment.")
        self._free -= 1
        try:
            async for reply in super().ServerReflectionInfo(requests, context):
                yield reply
        finally:
            self._free += 1
