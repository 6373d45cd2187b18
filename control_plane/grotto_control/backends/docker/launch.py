"""Hands a started container its configuration, and waits until its daemon serves.

The token travels over the launch socket alone: arguments and environment of a container
can be read by whoever may ask the engine.
"""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

from grotto_control.model.errors import BackendFailure, SandboxUnreachable
from grotto_control.model.records import SandboxHandle
from grotto_control.model.text import visible
from grotto_control.sandbox_socket import connected, open_pinned

SOCKET_NAME = "launch.sock"
MAX_LINE_BYTES = 16 * 1024
POLL_S = 0.003
_HINT = "the image needs Grotto's runtime of this version: build it with `make image`."

Ended = Callable[[], str | None]
"""Returns how the container ended, if it has."""


async def hand_over(
    handle: SandboxHandle, config: dict[str, Any], ended: Ended, keep: bool
) -> asyncio.StreamWriter | None:
    """Returns when the daemon serves; the open connection if it is to `keep`, as a lease.

    Raises BackendFailure with the sandbox's own words where it has any.
    """
    reader, writer = await _connection(handle, ended)
    try:
        writer.write(json.dumps(config).encode() + b"\n")
        await writer.drain()
        said = await _line(reader)
        if said.get("ready") is not True:
            raise _failure(said, ended())
    except BaseException as error:
        writer.close()
        if isinstance(error, OSError):
            raise _failure({}, ended()) from error
        raise
    if keep:
        return writer
    writer.close()
    return None


async def _connection(
    handle: SandboxHandle, ended: Ended
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            descriptor = open_pinned(handle, SOCKET_NAME)
            try:
                connection = connected(descriptor, handle)
            finally:
                os.close(descriptor)
            return await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE_BYTES)
        except SandboxUnreachable:
            if (note := ended()) is not None:
                raise _failure({}, note) from None
        await asyncio.sleep(POLL_S)


async def _line(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        raw = await reader.readline()
        found = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


def _failure(said: dict[str, Any], note: str | None) -> BackendFailure:
    error, hint = said.get("error"), said.get("hint")
    if isinstance(error, str):
        return BackendFailure(
            visible(error, 500), visible(hint, 500) if isinstance(hint, str) else ""
        )
    return BackendFailure(f"the sandbox {note or 'closed its socket'} before it was ready.", _HINT)
