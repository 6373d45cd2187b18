"""Which images sandboxes may be made of: checked once, then known by content.

An image comes from whoever wrote it. What of it would act outside the container's
walls, or change what this server believes, is refused (security.md 6).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grotto_control.backends.docker.engine import Engine, EngineError, EngineUnreachable
from grotto_control.backends.docker.template import PREFIX
from grotto_control.model.errors import BackendFailure
from grotto_control.model.text import visible

MAX_VARIABLES = 256
MAX_LABEL_CHARS = 64 * 1024
"""Every container carries its image's labels, and every list of containers all of them."""


class ImageRefused(BackendFailure):
    """The image is not there, or must not be used; another try will not help."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image by content, and the names of the variables it would set."""

    image_id: str
    env: tuple[str, ...]


class Images:
    """The images of this server by the names clients use, pinned when first seen."""

    def __init__(self, engine: Engine, references: Mapping[str, str]) -> None:
        """`references`: name to reference at the engine; the first name is the default."""
        self._engine = engine
        self._references = dict(references)
        self._pinned: dict[str, Image] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._references)

    async def pinned(self, name: str) -> Image:
        """Returns an image; raises ImageRefused, or EngineUnreachable."""
        known = self._pinned.get(name)
        if known is None:
            known = await self._looked_up(self._references[name])
            self._pinned[name] = known
        return known

    async def _looked_up(self, reference: str) -> Image:
        try:
            found = await self._engine.call("GET", f"/images/{reference}/json")
        except EngineError as error:
            if error.status == 404:
                raise ImageRefused(
                    f"the engine has no image {reference}.", "build it with `make image`."
                ) from error
            raise EngineUnreachable(error.message) from error
        return checked(reference, found)


def checked(reference: str, found: Mapping[str, Any]) -> Image:
    """Returns what sandboxes need of an inspected image; raises ImageRefused."""
    config = found.get("Config") or {}
    carried = config.get("Labels") or {}
    labels = [name for name in carried if name.startswith(PREFIX)]
    variables = config.get("Env") or []
    reasons = [
        reason
        for reason, is_there in (
            ("declares volumes, which would be written on the host", config.get("Volumes")),
            ("declares a health check, which would run in the sandbox", config.get("Healthcheck")),
            ("declares ONBUILD steps", config.get("OnBuild")),
            (f"has labels of ours ({visible(', '.join(labels), 80)})", labels),
            ("carries too many labels", _chars(carried) > MAX_LABEL_CHARS),
            ("sets too many variables", len(variables) > MAX_VARIABLES),
            ("sets a variable without a name", any(one[:1] in ("", "=") for one in variables)),
            ("is not for Linux", found.get("Os") != "linux"),
        )
        if is_there
    ]
    if reasons:
        raise ImageRefused(
            f"the image {reference} cannot be used: it {' and '.join(reasons)}.",
            "build it from Dockerfile.sandbox.",
        )
    env = tuple(entry.partition("=")[0] for entry in variables)
    return Image(str(found["Id"]), env)


def _chars(labels: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in labels.items())
