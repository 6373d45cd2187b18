"""What the proxy allows, as data, and the refusal of everything else. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grotto_control.backends.docker.template import Resources, resources_for
from grotto_control.core.limits import CAPS, MINIMUM

SERVER_ID = re.compile(r"[A-Za-z0-9_-]{4,64}")
SANDBOX_ID = re.compile(r"[a-z0-9]{1,40}")
IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")

MAX_DISK_BYTES = CAPS.disk_bytes
MAX_RESOURCES = resources_for(CAPS, MAX_DISK_BYTES)
MIN_RESOURCES = resources_for(MINIMUM, MINIMUM.disk_bytes)
NAMELESS = "no control plane has listed its own containers here yet, so nothing is anybody's."


class Refused(Exception):
    """The call is not passed on; the message says why, in one sentence."""

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class ImageUnknown(Refused):
    """The image is none that the operator's references are known to stand for."""

    def __init__(self) -> None:
        super().__init__("the image is not one that this proxy was started for.")


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between one server's proxy and another's."""

    server_id: str
    """Empty while no control plane has named itself: nothing is anybody's then."""
    images: Mapping[str, tuple[str, ...]]
    """Image id to the names of the environment variables that the image sets."""
    references: frozenset[str]
    runtimes: frozenset[str]
    """OCI runtimes of the engine; "" is its default."""
    socket_gid: int


def require(condition: object, message: str, status: int = 403) -> None:
    """Raises Refused unless `condition` holds."""
    if not condition:
        raise Refused(message, status)


def check_resources(resources: Resources) -> None:
    """Raises Refused for what no session of this server could have been given."""
    for name in Resources.__slots__:
        value, low, high = (getattr(r, name) for r in (resources, MIN_RESOURCES, MAX_RESOURCES))
        require(low <= value <= high, f"{name} is {value}; the proxy allows {low} to {high}.")


def integer(value: Any, what: str) -> int:
    """Returns `value` if it is an integer, and neither a bool nor a float; raises Refused."""
    require(type(value) is int, f"{what} is not an integer.", 400)
    return int(value)


def only_keys(given: Iterable[str], allowed: Iterable[str], what: str) -> None:
    """Raises Refused, naming the first one, for keys that are not allowed."""
    for key in sorted(set(given) - set(allowed)):
        raise Refused(f"{what} {key!a} is not one that the proxy passes on.")
