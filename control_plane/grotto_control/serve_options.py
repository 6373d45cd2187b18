"""The options of `serve` on the command line, and the configuration they make."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from grotto_control.config import (
    BACKENDS,
    PINGS_PER_GRACE,
    Config,
    DockerOptions,
    TlsConfig,
)
from grotto_control.core.plan import PlanRules


def add_arguments(serve: argparse.ArgumentParser) -> None:
    """Declares the options of `serve`, but for `--data-dir`."""
    serve.add_argument("--bind", metavar="HOST:PORT")
    serve.add_argument("--socket", type=Path, metavar="PATH")
    serve.add_argument("--insecure", action="store_true", help="serve others in clear")
    _add_tls(serve)
    serve.add_argument(
        "--drain-grace",
        type=float,
        default=Config.__dataclass_fields__["drain_grace_s"].default,
        metavar="S",
        help="seconds that running calls get when the server ends",
    )
    serve.add_argument(
        "--orphan-grace",
        type=float,
        default=Config.__dataclass_fields__["orphan_grace_s"].default,
        metavar="S",
        help="seconds that sandboxes live on without a server",
    )
    serve.add_argument(
        "--backend",
        choices=BACKENDS,
        default=os.environ.get("GROTTO_BACKEND") or "auto",
        help="where sandboxes run (GROTTO_BACKEND); auto: docker where it works, else local",
    )
    _add_docker(serve)
    serve.add_argument("--metrics-bind", metavar="HOST:PORT", help="Prometheus metrics, no key")
    serve.add_argument("--pool", type=int, default=1, metavar="N", help="warm sandboxes")
    serve.add_argument(
        "--max-sessions",
        type=_count,
        default=PlanRules.__dataclass_fields__["max_sessions"].default,
        metavar="N",
        help="live sessions of all tenants together",
    )
    serve.add_argument(
        "--tenant-sessions",
        type=_count,
        default=Config.__dataclass_fields__["tenant_sessions"].default,
        metavar="N",
        help="live sessions of each tenant",
    )
    serve.add_argument("--isolation", choices=("auto", "full", "reduced"), default="auto")
    serve.add_argument("--allow-unsandboxed", action="store_true")
    serve.add_argument("--lease", action="store_true", help="end with standard input")
    # For tests of tenancy on a machine without a backend for several tenants.
    serve.add_argument("--allow-shared-local", action="store_true", help=argparse.SUPPRESS)


def _add_docker(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=REFERENCE",
        help="an image that sessions may ask for; the first is the default",
    )
    serve.add_argument(
        "--docker-host",
        default=os.environ.get("DOCKER_HOST") or DockerOptions().host,
        metavar="URL",
        help="the engine's socket, unix:///path",
    )
    serve.add_argument("--docker-runtime", default="", metavar="NAME", help="OCI runtime")
    serve.add_argument(
        "--docker-one-uid",
        action="store_true",
        help="grant sandboxes no capability at all; daemon and tenant code then share a user",
    )


def _add_tls(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM, with its chain")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM, without a password")
    serve.add_argument(
        "--tls-client-ca", type=Path, metavar="FILE", help="clients need a certificate of it"
    )
    serve.add_argument(
        "--tls-dev", action="store_true", help="make a certificate, kept in the data directory"
    )
    serve.add_argument(
        "--tls-name", action="append", default=[], metavar="NAME", help="one more for --tls-dev"
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!a} is no count: give a whole number, 1 or more")
    return int(text)


def config_of(options: argparse.Namespace) -> Config:
    """Returns what the parsed options ask for, unchecked."""
    bind = options.bind
    if bind is None and options.socket is None:
        bind = Config.__dataclass_fields__["bind"].default
    return Config(
        data_dir=options.data_dir,
        bind=bind,
        socket=options.socket,
        insecure=options.insecure,
        tls=_tls(options),
        drain_grace_s=options.drain_grace,
        backend=options.backend,
        docker=_docker(options),
        metrics_bind=options.metrics_bind,
        isolation=options.isolation,
        allow_unsandboxed=options.allow_unsandboxed,
        lease=options.lease,
        shared_local=options.allow_shared_local,
        tenant_sessions=options.tenant_sessions,
        rules=_rules(options),
        orphan_grace_s=options.orphan_grace,
    )


def _rules(options: argparse.Namespace) -> PlanRules:
    usual = PlanRules(pool_size=options.pool, max_sessions=options.max_sessions)
    ping_every_s = min(usual.ping_every_s, options.orphan_grace / PINGS_PER_GRACE)
    return replace(usual, ping_every_s=ping_every_s)


def _docker(options: argparse.Namespace) -> DockerOptions:
    images = dict(image.partition("=")[::2] for image in options.image)
    return DockerOptions(
        host=options.docker_host,
        images=images or DockerOptions().images,
        runtime=options.docker_runtime,
        separate_uids=not options.docker_one_uid,
    )


def _tls(options: argparse.Namespace) -> TlsConfig | None:
    tls = TlsConfig(
        cert=options.tls_cert,
        key=options.tls_key,
        client_ca=options.tls_client_ca,
        dev=options.tls_dev,
        names=tuple(options.tls_name),
    )
    return None if tls == TlsConfig() else tls
