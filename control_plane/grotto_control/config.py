"""Everything that can be set, as one frozen value, checked once."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from grotto_control.core.admission import CallBounds
from grotto_control.core.limits import LimitRules
from grotto_control.core.plan import PlanRules

DATABASE = "grotto.db"
LOCK = "lock"
SANDBOXES = "sandboxes"
TLS = "tls"
IDENTITY = "identity.json"
BACKENDS = ("auto", "local", "docker")
MAX_DRAIN_GRACE_S = 3600.0
MIN_ORPHAN_GRACE_S = 4.0
PINGS_PER_GRACE = 4
"""So that a sandbox is called several times within its orphan grace."""
_IMAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_IMAGE_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,254}")


class BadConfig(Exception):
    """The server cannot be started like this; the message says what to change."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """What TCP is served with: a certificate and its key, or one made for development."""

    cert: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    """Clients have to show a certificate that one of these authorities signed."""
    dev: bool = False
    names: tuple[str, ...] = ()
    """Host names and addresses of the development certificate besides this host's own."""

    def check(self) -> None:
        """Raises BadConfig."""
        if self.dev and (self.cert or self.key):
            raise BadConfig("--tls-dev makes a certificate; leave out --tls-cert and --tls-key.")
        if not self.dev and not (self.cert and self.key):
            raise BadConfig("TLS needs --tls-cert and --tls-key together, or --tls-dev.")
        if self.names and not self.dev:
            raise BadConfig("--tls-name is for --tls-dev: a certificate of yours has its names.")


@dataclass(frozen=True, slots=True)
class ServingBounds:
    """What one peer may take of this process, before and after its key is known."""

    connections: int = 1024
    streams: int = 1024
    """Per connection. More than `CallBounds.calls`, so that a tenant over its bound is told so
    instead of being kept waiting, and an interrupt never queues behind executions."""
    metadata_bytes: int = 16 * 1024
    handshake_s: float = 10.0
    idle_connection_s: float = 600.0
    ping_every_s: float = 10.0
    """Clients that ping more often, while nothing else is sent, are disconnected."""
    keyless_streams: int = 32
    """Running calls of reflection, which needs no key and has no natural end."""


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """Which engine, and what sandboxes are made of there."""

    host: str = "unix:///var/run/docker.sock"
    images: Mapping[str, str] = field(default_factory=lambda: {"data": "grotto-sandbox:data"})
    """The name clients use to a reference at the engine, the default first."""
    runtime: str = ""
    """OCI runtime, as the engine knows it; "" for the engine's default."""
    separate_uids: bool = True
    """Off where the engine may grant no capability at all."""

    def check(self) -> None:
        """Raises BadConfig."""
        if not self.host.startswith("unix:///"):
            raise BadConfig(
                f"--docker-host {self.host}: give unix:///path/to/socket; sandboxes are reached "
                "through files of the engine's own host."
            )
        for name, reference in self.images.items():
            if not _IMAGE_NAME.fullmatch(name) or not _IMAGE_REFERENCE.fullmatch(reference):
                raise BadConfig(
                    f"--image {name}={reference}: give NAME=REFERENCE, as in "
                    "data=grotto-sandbox:data."
                )


@dataclass(frozen=True, slots=True)
class Config:
    """How a server is started. Durations in seconds."""

    data_dir: Path
    bind: str | None = "127.0.0.1:50151"
    """`HOST:PORT`; port 0 takes a free one. None: no TCP."""
    socket: Path | None = None
    insecure: bool = False
    """Serve in clear on an address other hosts can reach."""
    tls: TlsConfig | None = None
    backend: str = "auto"
    """`local`, `docker`, or `auto`: `docker` where it works, unless embedded."""
    docker: DockerOptions = field(default_factory=DockerOptions)
    metrics_bind: str | None = None
    """`HOST:PORT` of the metrics, which need no key: never one that strangers can reach."""
    isolation: str = "auto"
    allow_unsandboxed: bool = False
    lease: bool = False
    """Sandboxes die with this process, and it dies with its parent."""
    shared_local: bool = False
    """Lets several tenants use the local backend at once, which does not contain them."""
    tenant_sessions: int = 16
    concurrent_starts: int = 4
    """More sandboxes starting at once would only make each of them slower."""
    rules: PlanRules = field(default_factory=PlanRules)
    limits: LimitRules = field(default_factory=LimitRules)
    call_bounds: CallBounds = field(default_factory=CallBounds)
    serving: ServingBounds = field(default_factory=ServingBounds)
    orphan_grace_s: float = 300.0
    """How long sandboxes live on when no control plane calls them."""
    drain_grace_s: float = 10.0
    reconcile_every_s: float = 1.0

    def check(self) -> None:
        """Raises BadConfig."""
        if self.bind is None and self.socket is None:
            raise BadConfig("nothing to serve on: give --bind or --socket.")
        if self.bind is not None:
            self._check_exposure(is_loopback(self.bind))
        elif self.tls is not None:
            raise BadConfig("TLS is for --bind: a unix socket is this host's alone.")
        if self.socket is not None and len(os.fsencode(self.socket)) > 100:
            raise BadConfig("--socket: a unix socket's path has at most 100 bytes; choose another.")
        if self.backend not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise BadConfig(f"GROTTO_BACKEND={self.backend}: there is no such backend; {known}.")
        self.docker.check()
        if not self.orphan_grace_s >= MIN_ORPHAN_GRACE_S:
            raise BadConfig(f"--orphan-grace takes {MIN_ORPHAN_GRACE_S:g} seconds or more.")
        if not 0 <= self.drain_grace_s <= MAX_DRAIN_GRACE_S:
            raise BadConfig(f"--drain-grace takes 0 to {MAX_DRAIN_GRACE_S:.0f} seconds.")

    def _check_exposure(self, only_this_host: bool) -> None:
        if self.tls is not None:
            self.tls.check()
            if self.insecure:
                raise BadConfig("--insecure is for serving in clear: leave it out with TLS.")
        elif not only_this_host and not self.insecure:
            raise BadConfig(
                f"--bind {self.bind} can be reached from other hosts, and keys and data would "
                "cross the network in clear: give --tls-cert and --tls-key, or --tls-dev, "
                "or pass --insecure if you accept that."
            )


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
