"""The images that sandboxes may be made of: named by the operator, known by content."""

import json
from collections.abc import Iterable, Mapping

import structlog

from grotto_control.backends.docker.images import ImageRefused, checked
from grotto_control.engine_proxy.wire import EngineAbsent, Upstream

MAX_IMAGE_BYTES = 4 * 1024 * 1024


class AllowedImages:
    """What the operator's references have stood for since the proxy started."""

    def __init__(self, upstream: Upstream, references: Iterable[str]) -> None:
        self._upstream = upstream
        self._references = tuple(references)
        self._known: dict[str, tuple[str, ...]] = {}
        self._log = structlog.get_logger()

    def known(self) -> Mapping[str, tuple[str, ...]]:
        """Returns the names of each image's environment variables, by image id."""
        return self._known

    async def refresh(self) -> None:
        """Looks every reference up; images found before stay. Raises EngineAbsent."""
        for reference in self._references:
            reply = await self._upstream.send("GET", f"/v1.41/images/{reference}/json")
            body = await reply.whole(MAX_IMAGE_BYTES)
            if reply.status != 200:
                self._log.warning("image not found", reference=reference, status=reply.status)
                continue
            try:
                image = checked(reference, json.loads(body))
            except ImageRefused as refused:
                self._log.error("image refused", reference=reference, why=refused.message)
            except (ValueError, KeyError, TypeError) as error:
                raise EngineAbsent("the engine describes an image in words unknown here") from error
            else:
                self._known[image.image_id] = image.env
