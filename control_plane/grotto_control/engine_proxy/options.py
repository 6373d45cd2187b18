"""The options of `python -m grotto_control engine-proxy`. Imports no extra before it runs."""

import argparse
from pathlib import Path

from grotto_control.config import BadConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options, and `run` as what they are for."""
    parser.set_defaults(run=run)
    parser.add_argument("--engine", default="unix:///var/run/docker.sock", metavar="URL")
    parser.add_argument("--listen", type=Path, required=True, metavar="PATH", help="unix socket")
    parser.add_argument(
        "--server-id-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="which server is served: the first one that calls, kept here",
    )
    parser.add_argument(
        "--image",
        action="append",
        required=True,
        metavar="[NAME=]REFERENCE",
        dest="images",
        help="an image that sandboxes may be made of; again for another",
    )
    parser.add_argument(
        "--docker-runtime", action="append", default=[], metavar="NAME", help="OCI runtime allowed"
    )


async def run(options: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT; raises BadConfig."""
    try:
        from grotto_control.engine_proxy import command
    except ImportError as error:
        raise BadConfig("engine-proxy needs its extra: pip install 'grotto[docker]'.") from error
    return await command.run(options)
