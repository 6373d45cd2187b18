"""Everything that can be set, as one frozen value, checked once."""

import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from grotto_control.core.admission import CallBounds
from grotto_control.core.limits import LimitRules
from grotto_control.core.plan import PlanRules

DATABASE = "grotto.db"
LOCK = "lock"
SANDBOXES = "sandboxes"


class BadConfig(Exception):
    """The server cannot be started like this; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a server is started. Durations in seconds."""

    data_dir: Path
    bind: str | None = "127.0.0.1:50151"
    """`HOST:PORT`; port 0 takes a free one. None: no TCP."""
    socket: Path | None = None
    insecure: bool = False
    """Serve in clear on an address other hosts can reach."""
    metrics_port: int | None = None
    isolation: str = "auto"
    allow_unsandboxed: bool = False
    lease: bool = False
    """Sandboxes die with this process, and it dies with its parent."""
    shared_local: bool = False
    """Lets several tenants use the local backend at once, which does not contain them."""
    tenant_sessions: int = 16
    rules: PlanRules = field(default_factory=PlanRules)
    limits: LimitRules = field(default_factory=LimitRules)
    call_bounds: CallBounds = field(default_factory=CallBounds)
    orphan_grace_s: float = 300.0
    drain_grace_s: float = 10.0
    reconcile_every_s: float = 1.0

    def check(self) -> None:
        """Raises BadConfig."""
        if self.bind is None and self.socket is None:
            raise BadConfig("nothing to serve on: give --bind or --socket.")
        if self.bind is not None and not self.insecure and not is_loopback(self.bind):
            raise BadConfig(
                f"--bind {self.bind} can be reached from other hosts, and keys and data would "
                "cross the network in clear: bind to 127.0.0.1 behind a TLS proxy, "
                "or pass --insecure if you accept that."
            )
        if self.socket is not None and len(os.fsencode(self.socket)) > 100:
            raise BadConfig("--socket: a unix socket's path has at most 100 bytes; choose another.")


def is_loopback(bind: str) -> bool:
    """Returns whether only this host can reach `HOST:PORT`; raises BadConfig if it is neither."""
    host, _, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadConfig(f"--bind {bind}: give HOST:PORT, as in 127.0.0.1:50151.")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def default_data_dir() -> Path:
    """Returns where data lives unless told otherwise: $GROTTO_DATA_DIR or the user's share."""
    given = os.environ.get("GROTTO_DATA_DIR")
    return Path(given) if given else Path.home() / ".local" / "share" / "grotto"
