"""`python -m grotto_control engine-proxy`: what it is made of, its socket, and its end."""

import argparse
import asyncio
import os
import re
import signal
from pathlib import Path

import structlog

from grotto_control import logs
from grotto_control.config import BadConfig
from grotto_control.engine_proxy.allowed_images import AllowedImages
from grotto_control.engine_proxy.proxy import EngineProxy
from grotto_control.engine_proxy.rules import Rules
from grotto_control.engine_proxy.server_id import ServerId
from grotto_control.engine_proxy.wire import Bounds, Upstream

MAX_SOCKET_PATH_BYTES = 100
_REFERENCE = re.compile(r"(?:[A-Za-z0-9-]+=)?([a-z0-9][A-Za-z0-9_./:@-]{0,254})")


async def run(options: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT; raises BadConfig."""
    upstream = Upstream(_socket_of(options.engine))
    references = frozenset(map(_reference, options.images))
    rules = Rules(
        server_id="",
        images={},
        references=references,
        runtimes=frozenset(("", *options.docker_runtime)),
        # Sandboxes' sockets are for the same group as the proxy's own: the control plane's.
        socket_gid=os.getegid(),
    )
    images = AllowedImages(upstream, sorted(references))
    server_id = ServerId(options.server_id_file)
    proxy = EngineProxy(upstream, rules, images, server_id, Bounds())
    await _until_told(proxy, options.listen)
    return 0


async def _until_told(proxy: EngineProxy, path: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await listening(proxy, path)
    logs.set_up()
    structlog.get_logger().info("engine proxy serves", socket=str(path))
    await stop.wait()
    server.close()
    await proxy.close()
    await server.wait_closed()
    path.unlink(missing_ok=True)


async def listening(proxy: EngineProxy, path: Path) -> asyncio.Server:
    """Returns a server on a unix socket for owner and group; raises BadConfig."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise BadConfig(f"--listen: a path of at most {MAX_SOCKET_PATH_BYTES} bytes is needed.")
    before = os.umask(0o117)
    try:
        if path.is_socket():
            path.unlink()  # of a proxy that was killed
        return await asyncio.start_unix_server(proxy.serve, path)
    except OSError as error:
        raise BadConfig(f"--listen: cannot listen on {path}: {error.strerror}.") from error
    finally:
        os.umask(before)


def _socket_of(url: str) -> Path:
    path = url.removeprefix("unix://")
    if path == url or not path.startswith("/"):
        raise BadConfig(f"--engine {url}: give the engine's unix socket, unix:///….")
    return Path(path)


def _reference(text: str) -> str:
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise BadConfig(f"--image {text}: give an image's reference, as in grotto-sandbox:data.")
    return found[1]
