"""The messages between the daemon and its checker process; framing is `grotto_wire.frames`."""

import msgspec

from grotto_policy import Violation


class Check(msgspec.Struct, tag=True, frozen=True):
    """To the checker: judge `source` by the policy of that name."""

    id: int
    source: str
    policy: str


class Ready(msgspec.Struct, tag=True, frozen=True):
    """First message of a checker: the isolation layers it put itself under."""

    layers: list[str]


class Checked(msgspec.Struct, tag=True, frozen=True):
    """The answer to the Check of the same id."""

    id: int
    violations: list[Violation] = []
    parse_error: str | None = None
    """Why the source is not Python; there are no violations then."""
    gave_up: str | None = None
    """What the source was too complex for ("depth", "memory"); the checker is to be replaced."""
